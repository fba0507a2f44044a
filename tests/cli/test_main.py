import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from commands import SHIPPED, TINY, run

from hf_paretokd.cli import main as main_module
from hf_paretokd.cli import show
from hf_paretokd.evaluation.results import read_results
from hf_paretokd.runs.recipe import load_recipe
from hf_paretokd.runs.run import find_members


def test_export_and_translate_as_commands(students, text_folder, tmp_path, monkeypatch, capfd):
    data = ["--data.pairs", "fr-en", "--data.data_dir", text_folder, "--data.target_tags", "always"]
    arguments = ["--to", "ctranslate2", "--output", tmp_path / "float32"]
    assert run(monkeypatch, "export", students / "2-2", *arguments) == 1
    assert "say where test text is: --data.pairs" in capfd.readouterr().err
    assert run(monkeypatch, "export", students / "2-2", *arguments, *data) == 0
    assert "40 of 40 sentences equal to generate's" in capfd.readouterr().out
    (tmp_path / "in.txt").write_bytes(b"dans 3 heures\n\n\x07\nil y a 2 jours")
    for model in (tmp_path / "float32", students / "2-2"):
        assert run(monkeypatch, "translate", model, tmp_path / "in.txt", "--output", tmp_path / "out.txt", "--overwrite") == 0
        lines = (tmp_path / "out.txt").read_text().split("\n")
        assert len(lines) == 4
        assert lines[1:3] == ["", ""]
        assert lines[0]
    assert run(monkeypatch, "translate", students / "2-2", tmp_path / "in.txt", "--engine", "ctranslate2") == 0
    assert capfd.readouterr().out.split("\n") == lines, "both engines, to standard output"
    for words, message in (
        (("translate", students / "2-2", tmp_path / "none.txt"), "none.txt: no such file"),
        (("translate", students / "2-2", tmp_path / "in.txt", "--buffer", "0"), "--buffer: 0 is not 1 or more"),
        (("translate", tmp_path / "nowhere", tmp_path / "in.txt"), "nowhere: is not there"),
        (("translate", students / "2-2", tmp_path / "in.txt", "--to", "zz"), ">>zz<< is unknown to the tokenizer"),
        (("translate", tmp_path / "float32", tmp_path / "in.txt", "--engine", "transformers"), "is made for CTranslate2"),
        (("translate", students / "2-2", tmp_path / "in.txt", "--output", tmp_path / "no" / "x"), "cannot be written"),
    ):
        assert run(monkeypatch, *words) == 1
        assert message in capfd.readouterr().err.replace("\n", " ")


def test_a_run_from_text_to_scores(recipe_file, monkeypatch, capsys, tmp_path):
    from hf_paretokd.evaluation.results import read_results

    folder = tmp_path / "run"
    assert run(monkeypatch, "train", recipe_file, *TINY, "--model.encoder_layers", "3", "--evaluation.depths", "2-2") == 0
    assert {path.name for path in folder.iterdir()} >= {"recipe.yaml", "results.json", "checkpoints", "teacher", "students"}
    assert {path.name for path in (folder / "students").iterdir()} == {"2-2", "3-2"}
    rows = read_results(folder / "results.json")
    assert {(row.model, row.depth) for row in rows} == {("teacher", "3-2"), ("student", "2-2")}
    bleu = next(row for row in rows if row.metric == "bleu" and row.pair == "bs-en")
    assert "tok:13a" in bleu.signature
    assert bleu.decoding == "greedy"
    assert next(row.value for row in rows if row.metric == "updates") == 4
    output = capsys.readouterr().out
    assert "BLEU of bs-en" in output
    assert "chrF" in output

    assert run(monkeypatch, "train", recipe_file, *TINY) == 1
    assert "holds a finished run; give --extend" in capsys.readouterr().err
    assert run(monkeypatch, "train", recipe_file, *TINY, "--resume") == 1

    (folder / "results.json").unlink()
    (folder / "notes.txt").write_text("mine")
    assert run(monkeypatch, "train", recipe_file, *TINY) == 1
    assert "unfinished run; give --resume" in capsys.readouterr().err
    assert (
        run(monkeypatch, "train", recipe_file, *TINY, "--model.encoder_layers", "3", "--evaluation.depths", "2-2", "--resume")
        == 0
    )
    again = read_results(folder / "results.json")
    assert [row.value for row in again if row.metric == "bleu"] == [row.value for row in rows if row.metric == "bleu"]

    (folder / "latency-ctranslate2-int8.json").write_text("of the old models")
    assert run(monkeypatch, "train", recipe_file, *TINY, "--evaluation.splits", "[]", "--overwrite") == 0
    assert not list(folder.glob("latency*")), "times of the old models are gone"
    assert not (folder / "students" / "3-2").exists(), "the old run is gone"
    assert (folder / "notes.txt").exists(), "but not what else was there"
    assert run(monkeypatch, "train", recipe_file, *TINY, "--model.encoder_layers", "3", "--overwrite") == 0
    capsys.readouterr()
    assert run(monkeypatch, "evaluate", folder, "--evaluation.splits", "validation", "--evaluation.depths", "3-2") == 0
    assert "validation" in capsys.readouterr().out
    recipe = yaml.safe_load(recipe_file.read_text())
    assert (
        run(
            monkeypatch,
            "evaluate",
            folder / "students" / "2-2",
            "--data.pairs",
            "bs-en",
            "--data.data_dir",
            recipe["data"]["data_dir"],
        )
        == 0
    )
    assert run(monkeypatch, "extract", folder, "2-1", "--output", tmp_path / "out") == 0
    assert (tmp_path / "out" / "2-1" / "model.safetensors").is_file()
    capsys.readouterr()
    for words, message in (
        (("extract", folder, "4-2", "--output", tmp_path / "out"), "has only 3-2 layers"),
        (("extract", folder, "2-1", "--output", tmp_path / "out"), "exists already; give --overwrite"),
        (("extract", tmp_path / "none", "2-1", "--output", tmp_path / "out"), "none: is not there"),
        (("evaluate", tmp_path / "none", "--data.pairs", "bs-en", "--data.data_dir", "x"), "none: is not there"),
        (("evaluate", folder, "--evaluation.depths", "9-9"), "has only 3-2 layers"),
        (("train", tmp_path / "none.yaml"), "none.yaml: is not there; give a recipe or a run"),
    ):
        assert run(monkeypatch, *words) == 1, words
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error


def test_plain_models_run_through_the_same_code(recipe_file, monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "train", recipe_file, *TINY, "--method", "plain", "--tokenizer.joint", "false") == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / "students").exists()
    again = ["--output_dir", str(tmp_path / "second"), "--model.from_pretrained", str(tmp_path / "run" / "model")]
    assert run(monkeypatch, "train", recipe_file, *TINY, *again, "--evaluation.depths", "2-2") == 0
    assert (tmp_path / "second" / "teacher" / "model.safetensors").is_file()


def test_peers_run_through_the_same_code(recipe_file, text_folder, monkeypatch, tmp_path, capsys):
    peers = ["--method", "pareto_mutual", "--data.pairs", "fr-en", "bs-en", "--update_interval", "2", "--trial_share", "0.02"]
    plain = ["--method", "plain", *peers[2:5], "--output_dir", tmp_path / "base"]
    assert run(monkeypatch, "train", recipe_file, *TINY, *plain) == 0
    capsys.readouterr()
    assert run(monkeypatch, "train", recipe_file, *TINY, *peers, "--evaluation.baselines", str(tmp_path / "base")) == 0
    folder, printed = tmp_path / "run", capsys.readouterr().out
    for text in ("What is sampled", "peer 2, τ = 5", "2-2 peer 1", "2-2 peer 2", "HRL", "LRL"):
        assert text in printed
    for peer in "12":
        assert (folder / "peers" / peer / "model.safetensors").is_file()
        assert (folder / "peers" / peer / "tokenizer_config.json").is_file()
    rows = read_results(folder / "results.json")
    assert {row.peer for row in rows if row.model == "peer"} == {None, 1, 2}
    values = {(row.peer, row.pair): row.value for row in rows if row.metric == "chrf"}
    for peer in (1, 2):
        assert values[peer, "HRL"] == values[peer, "fr-en"]
        assert values[peer, "average"] == pytest.approx((values[peer, "fr-en"] + values[peer, "bs-en"]) / 2)
    assert all(row.signature for row in rows if row.metric in ("bleu", "chrf") and row.pair == "fr-en")
    assert load_recipe(folder / "recipe.yaml").evaluation.high_resource == ["fr-en"], "the larger half, by default"
    frontier = json.loads((folder / "frontier.json").read_text())
    assert [(point["family"], point["name"]) for point in frontier["points"]] == [
        ("run", "peer 1 (τ = 1)"),
        ("run", "peer 2 (τ = 5)"),
        ("base", "2-2 model"),
    ]
    for name in ("frontier.png", "weights.png"):
        assert (folder / "plots" / name).stat().st_size > 5000
    assert json.loads((folder / "distillation_weights.json").read_text())["strategy"] == "auto"
    again = ["evaluate", folder, "--evaluation.high_resource", "bs-en", "--evaluation.baselines", "[]"]
    assert run(monkeypatch, *again) == 0
    assert len(json.loads((folder / "frontier.json").read_text())["points"]) == 2
    assert run(monkeypatch, "evaluate", folder, "--evaluation.baselines", str(tmp_path / "nowhere")) == 1
    assert "evaluation.baselines" in capsys.readouterr().err


def test_students_of_every_peer_come_out_of_one_training(recipe_file, monkeypatch, tmp_path, capsys):
    """`pareto_all_in_one`: languages × depths through training, scores, frontier, report, choice and cards."""
    words = ["--method", "pareto_all_in_one", "--data.pairs", "fr-en", "bs-en", "--strategy", "uni", "--update_interval", "2"]
    shape = ["--model.encoder_layers", "3", "--model.decoder_layers", "2"]
    assert run(monkeypatch, "train", recipe_file, *TINY, *shape, *words) == 0
    folder = tmp_path / "run"
    rows = read_results(folder / "results.json")
    scored = {(row.model, row.depth, row.peer) for row in rows if row.metric == "bleu" and row.pair == "bs-en"}
    assert scored == {
        (kind, depth, peer) for kind, depth in (("peer", "3-2"), ("student", "3-2"), ("student", "2-2")) for peer in (1, 2)
    }
    points = json.loads((folder / "frontier.json").read_text())["points"]
    assert {point["name"] for point in points} >= {"2-2 of peer 1 (τ = 1)", "3-2 of peer 2 (τ = 5)"}
    for peer in "12":
        card = (folder / "peers" / peer / "students" / "2-2" / "README.md").read_text()
        assert "Pareto mutual distillation with All-in-One KD" in card or "pareto-all-in-one" in card
        assert "fr-en" in card
    assert (folder / "report.html").is_file()
    capsys.readouterr()
    assert run(monkeypatch, "push", folder, "--to", "user/name", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "user/name-peer-1-2-2" in printed
    assert "user/name-peer-2-3-2" in printed


def test_the_demo_shows_peers_too(text_folder, monkeypatch, tmp_path, capsys):
    shutil.copytree(text_folder, tmp_path / "demo" / "text")  # a small corpus; writing the whole one takes a while
    words = ["--method", "pareto", "--folder", str(tmp_path / "demo"), "--data.pairs", "fr-en", "bs-en"]
    short = ["--update_interval", "2", "--trial_share", "0.01", "--evaluation.splits", "[]"]
    assert run(monkeypatch, "demo", *words, *TINY, *short) == 0
    assert "Unseen phrases, peers/1" in capsys.readouterr().out
    assert (tmp_path / "demo" / "run-pareto_mutual" / "peers" / "2" / "model.safetensors").is_file()


SHORT = ("--max_tokens", "256", "--repeats", "1", "--updates", "4")


def test_the_bench_of_peers_prints_ratios(monkeypatch, capsys):
    assert (
        run(monkeypatch, "bench", "pareto", *["--shape", "tiny", "--max_tokens", "256", "--repeats", "1", "--updates", "4"])
        == 0
    )
    printed = capsys.readouterr().out
    for text in ("peer update, all α > 0 / plain step", "1.33", "trial updates / updates", "validations of one search"):
        assert text in printed
    assert run(monkeypatch, "bench", "pareto", "--shape", "huge") == 2


def test_the_bench_of_options_prints_ratios(monkeypatch, capsys):
    short = ["--shape", "tiny", "--max_tokens", "256", "--repeats", "1"]
    assert run(monkeypatch, "bench", "options", *short, "--no_compile") == 0
    printed = capsys.readouterr().out
    for text in ("as trained in float32", "bf16, eager attention", "AdamW not fused"):
        assert text in printed
    assert "torch_compile" not in printed
    assert run(monkeypatch, "bench", *short, "--parts", "trainer") == 0
    printed = capsys.readouterr().out
    assert "stock Seq2SeqTrainer" in printed
    assert "K = 2" not in printed


# ---- a command of one's own, as CONTRIBUTING describes it


def count_options(parser):
    parser.option("what", "folder", type=Path, help="with models in it")


def count(options, fields):
    """Counts the models in a folder."""
    show.line(f"{len(find_members(options.folder))} models")


def test_a_command_of_ones_own(monkeypatch, capsys, students):
    own = main_module.Command("look", "FOLDER", "Count models.", __name__, "count")
    monkeypatch.setitem(main_module.COMMANDS, "count", own)
    assert run(monkeypatch, "count", students.parent) == 0
    assert capsys.readouterr().out == "0 models\n"
    assert run(monkeypatch, "--help") == 0
    assert "  count FOLDER                Count models.\n" in capsys.readouterr().out


def test_square_brackets_in_paths_and_text_are_printed_as_they_are(capsys, text_folder):
    from hf_paretokd.data.corpus import DataConfig, load_text

    texts = load_text(DataConfig(pairs=["bs-en"], data_dir=str(text_folder)), "test")
    for text in texts.values():
        text.skipped["blank"], text.examples["blank"] = 1, "q[/t]/x:3"
    show.left_out({"test": texts})
    show.translations([("bs-en", "[b]a", "[/b]", "[red]c")], "[d]")
    said = capsys.readouterr().out
    for part in ("[/t]", "[b]a", "[/b]", "[red]c", "[d]"):
        assert part in said


def rows_of_recipe(name):
    """The systems that a recipe's comments name: words of `paretokd train` after the recipe, or of another command."""
    text = next(path for path in SHIPPED if path.stem == name).read_text()
    for line in text.splitlines():
        if line.startswith("#   ") and " --" in line:
            command = re.search(r"(paretokd | --)(.*)", line)
            yield shlex.split(command[2]) if "paretokd" in command[1] else ["train", "", *shlex.split(f"--{command[2]}")]


PARTS = [
    ("multi30k-de-en", 0, 9),
    ("multi30k-de-en", 9, 19),
    ("tatoeba8-m2o", 0, 4),
    ("tatoeba8-m2o", 4, 10),
    ("tatoeba8-m2o", 10, 17),
]


@pytest.mark.parametrize(("name", "start", "end"), PARTS)
def test_every_row_of_a_small_recipe_trains_at_toy_size(name, start, end, text_folder, tmp_path, monkeypatch):
    """In their order, because some learn from others; from the first baseline rows of every part may."""
    monkeypatch.chdir(tmp_path)
    path = next(path for path in SHIPPED if path.stem == name)
    pairs = ["bs-en"] if name.startswith("multi") else ["fr-en", "bs-en"]
    text = ["--data.pairs", *pairs, "--data.data_dir", text_folder, "--data.validation", "validation", "--data.test", "test"]
    small = [*TINY, *text, "--data.max_sentence_pairs", "{bs-en: 40}", "--evaluation.splits", "[]"]
    small += ["--model.encoder_layers", "3", "--evaluation.high_resource", pairs[0]]
    for method in ("pareto_mutual", "pareto_all_in_one"):
        small += [f"--{method}.update_interval", "2", f"--{method}.trial_share", "0.02"]
    rows = [["train", ""], *rows_of_recipe(name)]
    assert max(part[2] for part in PARTS if part[0] == name) >= len(rows) > 10, (
        "the pattern finds the rows, parts hold them all"
    )
    for words in [*(rows[1:2] if start else []), *rows[start:end]]:
        if words[0] == "train":
            assert run(monkeypatch, "train", path, *small, *words[2:]) == 0, words
        else:
            assert run(monkeypatch, *words, "--num_beams", "1") == 0, words


def rows_of_tables(path):
    """The words of every row of the paper's tables in a recipe's comments: after the recipe, or of another command."""
    for line in path.read_text().splitlines():
        if found := re.match(r"#   (?:Tab\.|App\.) \w  ?.*? (paretokd .*|--.*)", line):
            words = shlex.split(found[1].split("   ")[0])
            yield words[1:] if words[0] == "paretokd" else ["train", "", *words]


def small_words(path, text_folder):
    """What has a paper's recipe train at toy size, on other text: what it names could not be had."""
    recipe = load_recipe(path)
    into = {pair.target for pair in recipe.data.parsed_pairs} == {"en"} or len(recipe.data.pairs) == 1
    pairs = (["bs-en", "fr-en"] if into else ["en-bs", "en-fr"])[: len(recipe.data.pairs)]
    words = ["--data.pairs", *pairs, "--data.data_dir", text_folder, "--data.hub", "null", "--data.hub_config", "null"]
    words += ["--data.train", "train", "--data.validation", "validation", "--data.test", "test", "--evaluation.splits", "[]"]
    words += ["--data.max_sentence_pairs", f"{{{pairs[0]}: 40}}", "--model.encoder_layers", "3"]
    words += ["--evaluation.high_resource", pairs[0], "--gradient_accumulation_steps", "2", "--max_tokens", "200"]
    trials = ["--pareto_mutual.update_interval", "2", "--pareto_mutual.trial_share", "0.02"]
    return [*TINY, *words, *(trials if recipe.method == "pareto_mutual" else []), "--num_train_epochs", "1"]


@pytest.mark.parametrize("name", ["wmt14-en-de", "wmt16-en-ro", "ted8-o2m", "wmt6-m2o", "wmt6-o2m"])
def test_the_papers_recipes_train_at_toy_size(name, text_folder, tmp_path, monkeypatch):
    """Their rows are those of another recipe, with other numbers."""
    monkeypatch.chdir(tmp_path)
    path = next(path for path in SHIPPED if path.stem == name)
    assert run(monkeypatch, "train", path, *small_words(path, text_folder), "--output_dir", "run") == 0
    assert len(list((tmp_path / "run").rglob("model.safetensors"))) >= 2
    if not name.startswith(("wmt14", "wmt16")):
        other = next(path for path in SHIPPED if path.stem == "ted8-m2o")
        options = [[[word for word in row if word.startswith("--")] for row in rows_of_tables(each)] for each in (path, other)]
        assert options[0] == options[1]


@pytest.mark.parametrize(
    ("name", "start", "end"), [("iwslt14-de-en", 0, 7), ("iwslt14-de-en", 7, 20), ("ted8-m2o", 0, 7), ("ted8-m2o", 7, 20)]
)
def test_every_row_of_a_papers_table_trains_at_toy_size(name, start, end, text_folder, tmp_path, monkeypatch):
    """Some learn from the recipe's own training, or from the first row's."""
    monkeypatch.chdir(tmp_path)
    path = next(path for path in SHIPPED if path.stem == name)
    rows, small = list(rows_of_tables(path)), small_words(path, text_folder)
    assert end > len(rows) > 10 or start < end <= len(rows), "the pattern finds the rows"
    wanted = [["train", ""], *(rows[:1] if start else []), *rows[start:end]]
    for number, words in enumerate(wanted):
        if words[0] == "train":
            place = ["--output_dir", f"row-{number}"] if number and "--output_dir" not in words else []
            assert run(monkeypatch, "train", path, *small, *place, *words[2:]) == 0, words
        else:
            assert run(monkeypatch, *words, "--num_beams", "1") == 0, words
