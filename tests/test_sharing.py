"""A finished run handed over: report, choice, cards, uploads by the real client to a Hub on localhost."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_paretokd import choose_student, cli
from hf_paretokd.errors import RecipeError, TrainingError
from hf_paretokd.record import read_run
from hf_paretokd.sharing.report import write_report

FIELDS = {
    "data": {"pairs": ["fr-en", "bs-en"], "target_tags": "always"},
    "tokenizer": {"vocab_size": 900},
    "model": {
        "encoder_layers": 3,
        "decoder_layers": 2,
        "d_model": 32,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "max_position_embeddings": 64,
    },
    "training": {
        "max_steps": 20,
        "eval_steps": 10,
        "logging_steps": 5,
        "max_tokens": 600,
        "learning_rate": 0.004,
        "warmup_steps": 5,
        "bf16": False,
        "disable_tqdm": True,
    },
    "card": {
        "license": "cc-by-4.0",
        "datasets": ["anna/phrases"],
        "limitations": ["Phrases only."],
        "test_name": "CLDR phrases",
    },
}


@pytest.fixture(scope="module")
def folder(text_folder, tmp_path_factory) -> Path:
    """A run of two pairs with two students."""
    place = tmp_path_factory.mktemp("sharing")
    raw = json.loads(json.dumps(FIELDS))
    raw["data"]["data_dir"] = str(text_folder)
    raw["training"]["output_dir"] = str(place / "run")
    (place / "recipe.yaml").write_text(yaml.safe_dump(raw))
    assert command("train", place / "recipe.yaml") == 0
    return place / "run"


def command(*words) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["paretokd", *map(str, words)])
        return cli.main()


# ---- the report


class Page(HTMLParser):
    """What a browser would load, and all the text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.sources, self.text, self.open = [], [], []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_page_with_everything(folder):
    page = Page((folder / "report.html").read_text("utf-8"))
    assert not page.open, "every element is closed"
    assert len(page.sources) == 5
    for source in page.sources:
        assert source.startswith("data:image/png;base64,"), "nothing is loaded from elsewhere"
        assert base64.b64decode(source.split(",")[1]).startswith(b"\x89PNG")
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "latency.png",
        "size.png",
        "training.png",
        "validation.png",
        "frontier.png",
    }
    text = " ".join(" ".join(page.text).split())
    record = read_run(folder)
    for heading in ("Models", "Language pairs", "Compared", "Training", "Contamination", "Samples", "Configuration"):
        assert heading in text
    assert record.signature in text
    assert record.signature.startswith("method:all_in_one|depth:3-2|width:32|K:2|")
    assert "nrefs:1|bs:1000|seed:12345" in text
    for system in record.systems[1:]:
        row = record.table[system, "fr-en", "bleu"]
        assert f"{system.title} " in text
        assert f"{row.value:.1f} ± {(row.high - row.low) / 2:.1f}" in text
    assert f"{record.costs[1][record.systems[1]].milliseconds:.1f}" in text
    assert record.translations("bs-en")["reference"][5] in text, "the sixth of forty is the first of four shown"


def test_the_report_is_measured_and_drawn_again_only_where_needed(folder):
    stamp = (folder / "latency.json").stat().st_mtime_ns
    write_report(read_run(folder))
    assert (folder / "latency.json").stat().st_mtime_ns == stamp
    content = json.loads((folder / "latency.json").read_text())
    content["protocol"]["machine"] = "another machine"
    (folder / "latency.json").write_text(json.dumps(content))
    assert command("report", folder) == 0
    assert json.loads((folder / "latency.json").read_text())["protocol"]["machine"] != "another machine"


def test_text_from_outside_is_text_in_the_page(folder, tmp_path):
    path = folder / "translations" / "test.fr-en" / "student-2-2.txt"
    before = path.read_text()
    path.write_text("<script>alert(1)</script>\n" * len(before.splitlines()))
    try:
        content = write_report(read_run(folder)).read_text()
    finally:
        path.write_text(before)
        write_report(read_run(folder))
    assert "<script>" not in content
    assert "&lt;script&gt;alert(1)" in content


def test_comet_scores_beside_the_translations_reach_report_and_card(folder):
    scores = {"student-2-2.txt": [{"COMET": 0.7125}], "student-3-2.txt": [{"COMET": 0.8}]}
    path = folder / "translations" / "test.fr-en" / "wmt22-comet-da.json"
    path.write_text(json.dumps(scores))
    try:
        assert "0.7125" in write_report(read_run(folder)).read_text()
        from hf_paretokd.sharing.push import planned_uploads

        (card,) = (upload.card for upload in planned_uploads(folder, "anna/x", depths=["2-2"]))
        assert re.search(r"\| fr-en \| \d+\.\d \(.*\) \| \d+\.\d \(.*\) \| 0\.7125 \|", card)
        assert "* COMET: `wmt22-comet-da`" in card
    finally:
        path.unlink()
        write_report(read_run(folder))


# ---- the choice


def test_a_student_is_chosen_by_measured_figures(folder, capsys):
    record = read_run(folder)
    costs = record.costs[1]
    found = choose_student(folder)
    assert found.chosen.bleu == max(record.quality(system) for system in costs)
    small = choose_student(folder, max_mb=min(cost.megabytes for cost in costs.values())).chosen
    assert small.system.depth == "2-2"
    size = (folder / "students" / "2-2" / "model.safetensors").stat().st_size
    assert small.megabytes == pytest.approx(size / 1e6, abs=1e-3)
    assert choose_student(folder, pair="bs-en", prefer="smallest").chosen.bleu == record.quality(small.system, "bs-en")
    assert command("choose", folder, "--prefer", "smallest") == 0
    assert str(folder / "students" / "2-2") in capsys.readouterr().out.replace("\n", "")
    assert command("choose", folder, "--engine", "ctranslate2", "--quantization", "int8", "--max-mb", "50") == 0
    assert "CTranslate2 int8" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        command("choose", folder, "--max-mb", "0.001")
    assert ended.value.code == 1
    assert "nothing fits; 2-2 comes nearest, with 0." in capsys.readouterr().out
    with pytest.raises(RecipeError, match="'xx-en' was not scored; known are fr-en, bs-en"):
        choose_student(folder, pair="xx-en")
    with pytest.raises(RecipeError, match="needs --engine ctranslate2"):
        choose_student(folder, quantization="int8")
    with pytest.raises(TrainingError, match=r"no finished run \(results\.json is missing\)"):
        choose_student(folder / "students")


def test_a_run_that_was_moved_away_from_its_text_is_still_measured(folder, tmp_path, capsys):
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved, ignore=shutil.ignore_patterns("checkpoints", "latency.json"))
    recipe = yaml.safe_load((moved / "recipe.yaml").read_text())
    recipe["data"]["data_dir"] = str(tmp_path / "gone")
    (moved / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert command("choose", moved, "--prefer", "smallest") == 0
    shutil.rmtree(moved / "translations")
    assert command("choose", moved) == 1
    assert "holds no scored text; score its models first: paretokd evaluate" in capsys.readouterr().err.replace("\n", "")


def test_evaluating_again_keeps_what_the_training_took(folder, capsys):
    before = (folder / "results.json").read_text()
    assert command("evaluate", folder, "--evaluation.num_beams", "2") == 0
    assert "left as it is, because other things were measured (num_beams)" in capsys.readouterr().out.replace("\n", " ")
    assert (folder / "results.json").read_text() == before
    (folder / "comparisons.json").unlink()
    assert command("evaluate", folder, "--evaluation.baselines", str(folder)) == 0
    again = read_run(folder)
    assert again.signature
    assert {row.metric for row in again.rows if row.split == "train"} >= {"updates", "training_seconds", "core_hours"}
    twins = [each for each in again.comparisons if each.against == "run: student-2-2" and each.system == "student-2-2"]
    assert [(each.difference, each.p_value) for each in twins] == [(0.0, 1.0)] * 4


# ---- cards and uploads


@pytest.fixture(scope="module")
def facts(folder, tmp_path_factory) -> dict:
    """What a process of its own saw while it uploaded the run."""
    output = tmp_path_factory.mktemp("hub") / "facts.json"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(output.parent / "home"), "OMP_NUM_THREADS": "1"}
    worker = Path(__file__).with_name("hub_worker.py")
    run = subprocess.run(
        [sys.executable, str(worker), str(folder), str(output)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(output.read_text())


def test_every_model_gets_a_private_repository_with_a_plain_checkpoint(facts):
    assert facts["after_trouble"] == {"anna/plain-3-2": 1, "anna/plain-2-2": 1}, "in spite of passing trouble"
    assert facts["faults_left"] == 0
    assert len(facts["addresses"]) == 2
    plain = ["README.md", "config.json", "generation_config.json", "model.safetensors"]
    plain += ["source.spm", "target.spm", "tokenizer_config.json", "vocab.json"]
    assert facts["files"] == {"anna/plain-3-2": plain, "anna/plain-2-2": plain}
    assert facts["private"] == [True, True]
    assert facts["weights_equal"]
    assert facts["after_again"] == facts["after_trouble"], "nothing changed, nothing is sent"


def test_nothing_uploaded_tells_of_this_machine(facts, folder, text_folder):
    for name, content in facts["uploaded_text"].items():
        for path in (folder, text_folder, Path.cwd(), Path.home(), Path(sys.prefix), "/tmp"):
            assert str(path) not in content, name
        assert not re.search(r"training_args|name_or_path\": \"/|is_local", content), name


def test_cards_hold_metadata_and_measured_figures(facts, folder, tmp_path):
    record, found = read_run(folder), facts["metadata"]
    assert found["base_model"] == "anna/plain-3-2"
    assert (found["language"], found["license"], found["pipeline_tag"]) == (["bs", "en", "fr"], "cc-by-4.0", "translation")
    assert found["datasets"] == ["anna/phrases"]
    assert {"marian", "all-in-one-kd"} <= set(found["tags"])
    system = next(system for system in record.systems if system.depth == "2-2")
    row = record.table[system, "bs-en", "bleu"]
    index = {(name, metric): (value, arguments) for name, metric, value, arguments in found["results"]}
    assert len(index) == 4
    value, arguments = index["CLDR phrases (bs-en)", "bleu"]
    assert value == pytest.approx(row.value, abs=0.01)
    assert arguments["confidence_interval_95"] == pytest.approx([row.low, row.high], abs=0.01)
    assert arguments["signature"] == row.signature
    text = facts["uploaded_text"]["anna/plain-2-2/README.md"]
    for part in (record.signature, "@inproceedings{miao", "@inproceedings{huang", "* Phrases only.", "**2-2**", ">>en<<"):
        assert part in text
    assert "| 3-2 |" in text, "the whole family"
    assert not re.search(r"\|\n[^|\n]", text), "a blank line ends every table"
    assert "\n\n\n" not in text
    assert command("extract", folder, "2-2", "2-1", "--output", tmp_path) == 0
    for place in (folder / "students" / "2-2", tmp_path / "2-2"):
        assert record.signature in ModelCard((place / "README.md").read_text()).text, "cards on disk have the figures too"
    assert "## Scores" not in (tmp_path / "2-1" / "README.md").read_text(), "nobody scored it"


def test_the_snippets_of_an_uploaded_card_run_as_they_stand(facts):
    assert len(facts["snippets"]) == 3
    assert all(text.strip() for text in facts["snippets"])


def test_an_interrupted_push_goes_on_where_it_stopped(facts):
    assert "anna/cut-2-2: the Hub answered 502" in facts["cut"]
    assert "1 of 2 models are uploaded; the same command goes on from there" in facts["cut"]
    assert (facts["after_cut"]["anna/cut-3-2"], facts["after_cut"]["anna/cut-2-2"]) == (1, 0)
    assert facts["cut_again"]["error"] is None
    assert (facts["after_cut_again"]["anna/cut-3-2"], facts["after_cut_again"]["anna/cut-2-2"]) == (1, 1)
    assert not any("/lfs/" in request and "PUT" in request for request in facts["cut_again"]["requests"])


def test_refusals_end_at_once_and_silence_after_four_attempts(facts):
    assert "not logged in, or the token is not valid (401); run `hf auth login`" in facts["unauthorised"]["error"]
    assert facts["unauthorised"]["requests"].count("POST /api/repos/create") == 1
    assert "the token may not write there (403)" in facts["forbidden"]["error"]
    assert facts["forbidden"]["requests"].count("POST /api/repos/create") == 1
    assert "no answer from the Hub after 4 attempts" in facts["silent"]["error"]
    assert facts["silent"]["requests"].count("POST /api/repos/create") == 4
    assert "the Hub does not take the card" in facts["card"]["error"]
    assert '"license" must be one of' in facts["card"]["error"]
    assert all("give user/name" in text for text in facts["names"])
    assert len(facts["names"]) == 4


def test_one_repository_with_folders(facts):
    assert {"README.md", "2-2/README.md", "2-2/model.safetensors"} <= set(facts["subfolders"])


def test_trainers_push_their_students_when_asked_and_nothing_else(facts):
    assert facts["trainer_before"] == []
    assert set(facts["trainer"]) == {"anna/script-3-2", "anna/script-2-2"}
    for names in facts["trainer"].values():
        assert {"model.safetensors", "README.md"} <= set(names)
        assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert "method:all_in_one|depth:3-2" in facts["trainer_card"]
    assert 'from_pretrained("anna/script-2-2")' in facts["trainer_card"]
    assert set(facts["recipe"]) == {"anna/recipe-3-2", "anna/recipe-2-2"}


def test_a_name_the_hub_would_refuse_is_refused_before_the_training(folder, tmp_path, capsys):
    words = ["--output_dir", tmp_path / "new", "--push_to_hub", "true", "--hub_model_id", "just-a-name"]
    assert command("train", folder / "recipe.yaml", *words) == 1
    assert "'just-a-name' is no name for a repository; give user/name" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_dry_run_prints_the_cards(folder, capsys):
    assert command("push", folder, "--to", "anna/x", "--dry-run", "--depths", "2-2") == 0
    output = capsys.readouterr().out
    assert "==== anna/x-2-2: config.json, generation_config.json, model.safetensors" in output
    assert "base_model: anna/x-3-2" in output
    assert "nothing was sent" in output
    assert command("push", folder, "--to", "anna/x", "--dry-run", "--depths", "9-2") == 1
    assert "has no model 9-2" in capsys.readouterr().err


def test_the_commands_of_the_page_on_sharing_work_on_a_run(folder, capsys):
    page = (Path(__file__).parent.parent / "docs" / "sharing.md").read_text("utf-8")
    lines = [line.partition("  #")[0] for line in page.splitlines() if re.match(r"paretokd (report|choose|push) runs", line)]
    assert len(lines) == 7
    for line in lines:
        words = line.replace("runs/my-run", str(folder)).replace("de-en", "fr-en").replace("6-2 2-2", "3-2 2-2").split()[1:]
        try:
            code = command(*words, *(["--dry-run"] if words[0] == "push" and "--dry-run" not in words else []))
        except SystemExit as ended:
            code = ended.code
        assert code == 0 or (words[0], code) == ("choose", 1), "such a model fits no budget"
