import json
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from hf_paretokd import cli
from hf_paretokd.errors import ParetoKDError, RecipeError
from hf_paretokd.evaluation.results import read_results
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
    assert recipe.training.max_steps > 0 or recipe.training.num_train_epochs >= 70
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


@pytest.mark.parametrize(
    ("corpus", "tau", "epochs", "dropout", "high", "pairs"), [("wmt6", 5, 70, 0.2, 3, 6), ("ted8", 3, 300, 0.3, 4, 8)]
)
@pytest.mark.parametrize("direction", ["m2o", "o2m"])
def test_the_hyper_parameters_of_pareto_md(corpus, tau, epochs, dropout, high, pairs, direction):
    """PMD §4.1 and App. C; the learning rate is Marian's."""
    recipe = load_recipe(next(path for path in SHIPPED if path.stem == f"{corpus}-{direction}"))
    training, model = recipe.training, recipe.model
    assert (training.temperatures, training.strategy, training.trial_share) == ([1, tau], "auto", 0.1)
    assert (training.update_interval, training.step_size, training.step_size_decay) == (None, 1, 1)
    assert training.max_tokens * training.gradient_accumulation_steps == 65_536
    assert (training.num_train_epochs, training.label_smoothing_factor) == (epochs, 0.1)
    assert (training.adam_beta1, training.adam_beta2, training.lr_scheduler_type) == (0.9, 0.98, "inverse_sqrt")
    assert (model.encoder_layers, model.decoder_layers, model.d_model, model.encoder_attention_heads) == (6, 6, 512, 8)
    assert (model.encoder_ffn_dim, model.dropout, recipe.evaluation.num_beams) == (2048, dropout, 5)
    assert (len(recipe.data.pairs), len(recipe.evaluation.high_resource)) == (pairs, high)
    side = [pair.target if direction == "m2o" else pair.source for pair in recipe.data.parsed_pairs]
    assert set(side) == {"en"}
    text = next(path for path in SHIPPED if path.stem == f"{corpus}-{direction}").read_text()
    assert "pre-norm" in text
    assert "post-norm" in text


def test_rows_of_the_papers_tables_are_overrides(tmp_path):
    """Every override that a recipe's comments name is one the recipe takes."""
    seen = 0
    for path in SHIPPED:
        for line in path.read_text().splitlines():
            if not line.startswith("#   ") or " --" not in line:
                continue
            words = line.split("(")[0].split(" --", 1)[1].split()
            load_recipe(path, ["--" + words[0], *words[1:]])
            seen += 1
    assert seen > 30


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
        ("run", "peer 1"),
        ("run", "peer 2"),
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


def test_the_demo_shows_peers_too(text_folder, monkeypatch, tmp_path, capsys):
    shutil.copytree(text_folder, tmp_path / "demo" / "text")  # a small corpus; writing the whole one takes a while
    words = ["--method", "pareto", "--folder", str(tmp_path / "demo"), "--data.pairs", "fr-en", "bs-en"]
    short = ["--update_interval", "2", "--trial_share", "0.01", "--evaluation.splits", "[]"]
    assert run(monkeypatch, "demo", *words, *TINY, *short) == 0
    assert "Unseen phrases, peers/1" in capsys.readouterr().out
    assert (tmp_path / "demo" / "run-pareto_mutual" / "peers" / "2" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--temperatures", "1", "0"], "temperatures"),
        (["--temperatures", "2"], "two or more peers"),
        (["--distillation_weight", "1.5"], "distillation_weight"),
        (["--strategy", "both"], "strategy"),
        (["--evaluation.high_resource", "xx-en"], "evaluation.high_resource"),
        (["--evaluation.engine", "fairseq"], "evaluation.engine"),
        (["--evaluation.num_beams", "0"], "evaluation.num_beams"),
        (["--data.max_sentence_pairs", "{de-en: 5}"], "data.max_sentence_pairs: 'de-en' is not one of the pairs"),
        (["--data.max_sentence_pairs", "{bs-en: 0}"], "data.max_sentence_pairs: 0 is out of range"),
        (["--data.max_sentence_pairs", "7"], "max_sentence_pairs"),
        (["--data.data_dir", "null", "--data.hub", "{fr-en: some/set}"], "data.hub: 'fr-en' is not one of the pairs"),
    ],
)
def test_bad_settings_of_peers_name_the_field(recipe_file, words, named):
    with pytest.raises(ParetoKDError, match=named):
        load_recipe(recipe_file, ["--method", "pareto_mutual", *words])


def test_a_capped_pair_keeps_a_fixed_choice(recipe_file, text_folder):
    from hf_paretokd import load_text

    recipe = load_recipe(recipe_file, ["--data.max_sentence_pairs", "{bs-en: 100}"])
    whole = next(iter(load_text(load_recipe(recipe_file).data, "train").values()))
    capped, again = (next(iter(load_text(recipe.data, "train").values())) for _ in range(2))
    assert len(capped) == 100
    assert capped.sources == again.sources
    positions = [whole.sources.index(source) for source in capped.sources]
    assert positions == sorted(positions)
    assert positions[-1] > 150, "not just the first ones"
    assert capped.skipped["more than max_sentence_pairs"] == len(whole) - 100
    assert len(next(iter(load_text(recipe.data, "validation").values()))) == 40


SHORT = ("--max_tokens", "256", "--repeats", "1", "--updates", "4")


def test_the_bench_of_peers_prints_ratios(monkeypatch, capsys):
    assert (
        run(monkeypatch, "bench", "pareto", *["--shape", "tiny", "--max_tokens", "256", "--repeats", "1", "--updates", "4"])
        == 0
    )
    printed = capsys.readouterr().out
    for text in ("peer update, all α > 0 / plain step", "1.33", "trial updates / updates", "validations of one search"):
        assert text in printed
    assert run(monkeypatch, "bench", "pareto", "--shape", "huge") == 1


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


def test_what_yaml_would_misread(recipe_file):
    recipe = load_recipe(recipe_file, ["--data.train", "{pair}.tsv", "--eval_strategy", "no", "--mutual_start", "0"])
    assert recipe.data.train == "{pair}.tsv"
    assert recipe.training.eval_strategy == "no"


def test_unknown_commands_end_with_the_usage(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "trian")
    assert run(monkeypatch, "--help") == 0
    assert "paretokd COMMAND" in capsys.readouterr().out
    assert run(monkeypatch, "train", SHIPPED[0], "--help") == 0
    assert "--kd_weight" in capsys.readouterr().out
