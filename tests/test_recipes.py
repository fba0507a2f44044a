import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from hf_paretokd import cli
from hf_paretokd.errors import RecipeError
from hf_paretokd.recipe import load_recipe

SHIPPED = sorted(path for path in Path(str(files("hf_paretokd.recipes"))).iterdir() if path.suffix == ".yaml")
TINY = [
    "--tokenizer.vocab_size",
    "700",
    "--model.encoder_layers",
    "2",
    "--model.decoder_layers",
    "2",
    "--model.d_model",
    "16",
    "--model.encoder_ffn_dim",
    "16",
    "--model.decoder_ffn_dim",
    "16",
    "--max_steps",
    "4",
    "--eval_steps",
    "2",
    "--logging_steps",
    "1",
    "--max_tokens",
    "400",
    "--bf16",
    "false",
    "--disable_tqdm",
    "true",
    "--warmup_steps",
    "1",
]


@pytest.fixture
def recipe_file(text_folder, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "method": "all_in_one",
                "data": {"pairs": ["bs-en"], "data_dir": str(text_folder)},
                "training": {"output_dir": str(tmp_path / "run")},
                "all_in_one": {"num_students": 2},
            }
        )
    )
    return path


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["paretokd", *map(str, words)])
    return cli.main()


# ---- fields


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_every_key_is_commented_or_obvious(path):
    recipe = load_recipe(path)
    assert recipe.training.max_steps > 0
    assert path.read_text().startswith("# ")
    if recipe.data.hub:
        assert "could not be checked" in path.read_text()


def test_the_papers_hyper_parameters():
    by_name = {path.stem: load_recipe(path) for path in SHIPPED}
    for name, weights, steps, tokens in (
        ("iwslt14-de-en", (5.5, 0.5, 1.1), 600_000, 4096),
        ("wmt16-en-ro", (5.5, 0.5, 1.1), 600_000, 4096),
        ("wmt14-en-de", (4.5, 0.1, 1.01), 800_000, 32_768),
    ):
        training = by_name[name].training
        assert (training.kd_weight, training.mutual_weight, training.detach_threshold) == weights
        assert training.max_steps == steps
        assert training.max_tokens * training.gradient_accumulation_steps == tokens
        assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.98, 1e-9)
        assert (training.num_students, training.mutual_start) == (2, 0.5)
        assert (by_name[name].model.encoder_layers, by_name[name].model.decoder_layers) == (6, 6)


def test_overrides_reach_every_section(recipe_file):
    recipe = load_recipe(
        recipe_file,
        [
            "--max_steps",
            "7",
            "--model.d_model=64",
            "--data.pairs",
            "fr-en",
            "bs-en",
            "--num_students",
            "3",
            "--bf16",
            "false",
            "--candidates",
            '["2-2", "3-2"]',
            "--stage2_reset",
            "[]",
            "--detach_threshold",
            ".inf",
            "--tokenizer.joint",
            "false",
            "--lr_scheduler_kwargs",
            '{"timescale": 10}',
        ],
    )
    training = recipe.training
    assert (training.max_steps, recipe.model.d_model, training.num_students, training.bf16) == (7, 64, 3, False)
    assert recipe.data.pairs == ["fr-en", "bs-en"]
    assert (training.candidates, training.stage2_reset, training.detach_threshold) == (["2-2", "3-2"], [], float("inf"))
    assert recipe.tokenizer.joint is False
    assert training.lr_scheduler_kwargs == {"timescale": 10}
    plain = load_recipe(recipe_file, ["--method", "plain"])
    assert not hasattr(plain.training, "num_students"), "fields of other methods lie idle"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_stepz", "5"], r"unknown field 'max_stepz' \(did you mean 'max_steps'"),
        (["--max_steps", "many"], "field max_steps: invalid int value"),
        (["--modle.d_model", "5"], r"unknown section \(did you mean 'model'"),
        (["--model.width", "5"], "unknown field 'width'"),
        (["--model.d_model", "33"], "33 is not a multiple"),
        (["--method", "magic"], "method 'magic' is not one of plain, all_in_one"),
        (["--kd_weight", "-2"], "kd_weight: -2.0 is not 0 or more"),
        (["--candidates", "[unclosed"], "not a value in YAML"),
        (["loose"], "expected an override"),
        (["--data.pairs", "deen"], "language pair 'deen'"),
        (["--optim", "sgdx"], "optim"),
    ],
)
def test_bad_overrides_name_the_field(recipe_file, words, message):
    with pytest.raises(Exception, match=message) as caught:
        load_recipe(recipe_file, words)
    assert type(caught.value).__module__ == "hf_paretokd.errors"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("method: [", "not readable as YAML"),
        ("- a", "expected a mapping"),
        ("modle: {}", "unknown section 'modle'"),
        ("data: 3", "section 'data' must be a mapping"),
        ("method: plain", "data.pairs"),
        ("\0", "not readable"),
    ],
)
def test_bad_recipe_files(tmp_path, content, message):
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "bad.yaml")
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "missing.yaml")


# ---- whole runs


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
    assert "finished run; give --overwrite" in capsys.readouterr().err
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

    assert run(monkeypatch, "train", recipe_file, *TINY, "--evaluation.splits", "[]", "--overwrite") == 0
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
        (("extract", tmp_path / "none", "2-1", "--output", tmp_path / "out"), "no usable checkpoint"),
        (("evaluate", tmp_path / "none", "--data.pairs", "bs-en", "--data.data_dir", "x"), "no usable checkpoint"),
        (("evaluate", folder, "--evaluation.depths", "9-9"), "has only 3-2 layers"),
        (("train", tmp_path / "none.yaml"), "no such recipe"),
        (("train",), "give a recipe first"),
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


def test_unknown_commands_end_with_the_usage(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "trian")
    assert run(monkeypatch, "--help") == 0
    assert "paretokd COMMAND" in capsys.readouterr().out
    assert run(monkeypatch, "train", SHIPPED[0], "--help") == 0
    assert "--kd_weight" in capsys.readouterr().out
