import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PATIENCE, command
from huggingface_hub import ModelCard

from hf_paretokd.runs.run import Run


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
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(output.read_text())


def test_every_model_gets_a_private_repository_with_a_plain_checkpoint(facts):
    assert facts["after_trouble"] == {"anna/plain-3-2": 1, "anna/plain-2-2": 1}, "in spite of passing trouble"
    assert facts["faults_left"] == 0
    assert len(facts["addresses"]) == 2
    plain = ["README.md", "config.json", "generation_config.json", "model.safetensors"]
    plain += ["source.spm", "target.spm", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    assert facts["files"] == {"anna/plain-3-2": plain, "anna/plain-2-2": plain}
    assert facts["private"] == [True, True]
    assert facts["weights_equal"]
    assert facts["at_a_revision"]
    for text, start in zip(facts["not_to_be_had"], ("anna/plain-2-2", "anna/nothing", "nothing"), strict=True):
        assert text.startswith(f"model {start}: cannot be had from the Hub")
    assert "at revision v9 (" in facts["not_to_be_had"][0]
    assert facts["after_again"] == facts["after_trouble"], "nothing changed, nothing is sent"


def test_nothing_uploaded_tells_of_this_machine(facts, folder, text_folder):
    for name, content in facts["uploaded_text"].items():
        for path in (folder, text_folder, Path.cwd(), Path.home(), Path(sys.prefix), "/tmp"):
            assert str(path) not in content, name
        assert not re.search(r"training_args|name_or_path\": \"/|is_local", content), name


def test_cards_hold_metadata_and_measured_figures(facts, folder, tmp_path):
    record, found = Run(folder), facts["metadata"]
    assert found["base_model"] == "anna/plain-3-2"
    assert (found["language"], found["license"], found["pipeline_tag"]) == (["bs", "en", "fr"], "cc-by-4.0", "translation")
    assert found["datasets"] == ["anna/phrases"]
    assert {"marian", "all-in-one-kd"} <= set(found["tags"])
    member = next(member for member in record.scored if str(member.depth) == "2-2")
    row = record.table[member, "bs-en", "bleu"]
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


def test_a_push_cut_off_at_the_end_of_a_training_says_how_to_go_on(facts):
    assert facts["recipe_cut"].endswith("/recipe --to anna/recipe goes on from there")
    assert "models are uploaded; paretokd push " in facts["recipe_cut"]


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
    assert len(facts["names"]) == 6
    assert any(f"'anna/{'x' * 93}-3-2'" in text for text in facts["names"]), "the name that a student would get"


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
    assert command("push", folder, "--to", "anna/x", "--dry-run", "--cards", "--depths", "2-2") == 0
    output = capsys.readouterr().out
    assert "==== anna/x-2-2\n" in output
    assert re.search(r"^ anna/x-2-2 +9 +0\.\d ", output, re.MULTILINE), "files and megabytes"
    assert re.search(r"^1 uploads?, 0\.\d MB, private where", output, re.MULTILINE)
    assert "base_model: anna/x-3-2" in output
    assert "nothing was sent" in output
    assert command("push", folder, "--to", "anna/x", "--dry-run") == 0
    assert "base_model" not in capsys.readouterr().out, "cards are long"
    assert command("push", folder, "--to", "anna/x", "--dry-run", "--depths", "9-2") == 1
    assert "has no model 9-2" in capsys.readouterr().err
