import shlex
from types import SimpleNamespace

import pytest
from commands import SHIPPED

from hf_paretokd.errors import ParetoKDError, RecipeError
from hf_paretokd.runs.recipe import load_recipe


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
            if not line.startswith("#   ") or " --" not in line or "paretokd" in line:
                continue
            words = shlex.split(line.split(" --", 1)[1].split("   ")[0])
            load_recipe(path, ["--" + words[0], *words[1:]])
            seen += 1
    assert seen > 30


def test_models_of_a_run_are_asked_by_the_tags_they_have_learnt(recipe_file, tmp_path):
    """Whichever of its pairs are looked at; a new training on fewer pairs has tags of its own."""
    known = SimpleNamespace(get_vocab=lambda: {">>en<<": 0, ">>fr<<": 1})

    def before(name, *words, trainable=False):
        recipe = load_recipe(tmp_path / name, ["--data.pairs", *words], trainable)
        return {str(pair): direction.before for pair, direction in recipe.directions(known).items()}

    load_recipe(recipe_file, ["--data.pairs", "en-fr", "en-bs"]).save(tmp_path / "kept.yaml")
    assert before("kept.yaml", "en-fr") == {"en-fr": ">>fr<< "}
    assert before("kept.yaml", "en-fr", trainable=True) == {"en-fr": ""}
    load_recipe(recipe_file, ["--data.pairs", "fr-en", "bs-en"]).save(tmp_path / "into.yaml")
    assert before("into.yaml", "fr-en") == {"fr-en": ""}
    assert before("into.yaml", "fr-en", "--data.target_tags", "always") == {"fr-en": ">>en<< "}


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
        (["--max_steps", "many"], "--max_steps: invalid int value"),
        (["--modle.d_model", "5"], r"unknown section \(did you mean 'model'"),
        (["--model.width", "5"], "unknown field 'width'"),
        (["--model.d_model", "33"], "33 is not a multiple"),
        (["--method", "magic"], "--method: 'magic' is no method"),
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


def test_what_yaml_would_misread(recipe_file):
    recipe = load_recipe(recipe_file, ["--data.train", "{pair}.tsv", "--eval_strategy", "no", "--mutual_start", "0"])
    assert recipe.data.train == "{pair}.tsv"
    assert recipe.training.eval_strategy == "no"
