import math
from dataclasses import dataclass, field

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from hf_paretokd.errors import RecipeError
from hf_paretokd.runs.fields import parse_section, read_yaml, typed_words, write_yaml
from hf_paretokd.runs.recipe import load_recipe

SURPRISES = [
    "010",
    "2024_01",
    "on",
    "no",
    "y",
    "1:30",
    "2024-01-31",
    "0x10",
    "0o7",
    "+5",
    "1.0.0",
    "exp #2",
    "a: b",
    "{pair}.tsv",
    "=",
]


@dataclass
class Fields:
    count: int = 1
    share: float = 0.5
    switch: bool = False
    text: str = ""
    maybe: str | None = "x"
    limit: float | None = 1.0
    names: list[str] = field(default_factory=list)
    numbers: list[float] | None = None
    either: str | list[str] | None = None
    table: dict[str, int] = field(default_factory=dict)
    eval_strategy: str = "steps"


def from_yaml(name, text):
    return getattr(parse_section(Fields, read_yaml(f"{name}: {text}"), "recipe"), name)


def from_words(name, *words):
    return getattr(parse_section(Fields, {name: typed_words(Fields, name, words, "recipe")}, "recipe"), name)


@pytest.mark.parametrize("word", [*SURPRISES, "5", "-5", "1.50", "1e3", "true", "~", "[a", "'quoted'", "", ".inf"])
def test_a_word_for_a_text_field_is_the_text(word):
    for name in ("text", "maybe", "names", "either"):
        if word == "[a" and name in ("names", "either"):
            continue  # lists are possible there
        assert from_words(name, word) == ([word] if name == "names" else word)
    assert from_words("text", "null") == "null"
    assert from_words("maybe", "null") is None


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("count", ["7"], 7),
        ("count", ["-7"], -7),
        ("count", ["1e3"], 1000),
        ("share", ["5e-4"], 5e-4),
        ("share", ["3"], 3.0),
        ("limit", [".inf"], math.inf),
        ("limit", ["null"], None),
        ("switch", [], True),
        ("switch", ["false"], False),
        ("switch", ["no"], False),
        ("names", ["a", "010"], ["a", "010"]),
        ("names", ["[a, 010, 'on']"], ["a", "010", "on"]),
        ("names", ["[]"], []),
        ("names", ["2024"], ["2024"]),
        ("numbers", ["1", "5"], [1.0, 5.0]),
        ("numbers", ["[1, 5e-1]"], [1.0, 0.5]),
        ("numbers", ["3"], [3.0]),
        ("either", ["a", "b"], ["a", "b"]),
        ("either", ['["a", "b"]'], ["a", "b"]),
        ("table", ['{"de-en": 5}'], {"de-en": 5}),
        ("eval_strategy", ["no"], "no"),
    ],
)
def test_words_by_the_type_of_their_field(name, words, value):
    found = from_words(name, *words)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", "'010'", "010"),
        ("text", "'null'", "null"),
        ("text", "2016", "2016"),
        ("maybe", "null", None),
        ("limit", "null", None),
        ("limit", "", None),
        ("share", "5e-4", 5e-4),
        ("share", "1", 1.0),
        ("switch", "no", False),
        ("names", "de-en", ["de-en"]),
        ("names", "[2024, on]", ["2024", "on"]),
        ("names", "['--beams matter', '-5 degrees']", ["--beams matter", "-5 degrees"]),
        ("either", "[tensorboard, wandb]", ["tensorboard", "wandb"]),
        ("either", "tensorboard", "tensorboard"),
        ("eval_strategy", "no", "no"),
        ("eval_strategy", "false", "no"),
        *(
            ("text", word, word)
            for word in SURPRISES
            if ":" not in word[:-1] or word == "1:30"
            if "#" not in word and word[0] != "{"
        ),
    ],
)
def test_values_of_yaml_by_the_type_of_their_field(name, text, value):
    found = from_yaml(name, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("count", "many", "field count: invalid int value: 'many'"),
        ("count", "0.5", "field count: invalid int value: 0.5"),
        ("count", "true", "field count: invalid int value: True"),
        ("count", "null", "field count: invalid int value: None"),
        ("share", "[1]", r"field share: invalid float value: \[1\]"),
        ("switch", "maybe", "field switch: invalid bool value: 'maybe'"),
        ("text", "1.50", "field text: invalid str value: 1.5; put text in quotes"),
        ("text", "true", "field text: invalid str value: True; put text in quotes"),
        ("text", "[a]", r"field text: invalid str value: \['a'\]"),
        ("numbers", "[true]", r"field numbers: invalid list\[float\] | None value: \[True\]"),
        ("names", "{a: b}", "field names"),
        ("table", "{a: b}", r"field table: invalid dict\[str, int\] value"),
        ("other", "1", "unknown field 'other'"),
        ("cuont", "1", r"unknown field 'cuont' \(did you mean 'count'\?\)"),
    ],
)
def test_values_that_do_not_fit(name, text, message):
    with pytest.raises(RecipeError, match=message):
        from_yaml(name, text)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("count", [], "recipe: a value is missing"),
        ("text", [], "recipe: a value is missing"),
        ("text", ["a", "b"], "recipe: invalid str value"),
        ("count", ["true"], "recipe: invalid int value"),
        ("names", ["[a"], r"recipe: '\[a' is not a value in YAML or JSON"),
    ],
)
def test_words_that_do_not_fit(name, words, message):
    with pytest.raises(RecipeError, match=message):
        from_words(name, *words)


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(yaml.YAMLError, match=r"'a' stands twice(.|\n)*line 3"):
        read_yaml("a: 1\nb: 2\na: 3\n")
    assert read_yaml("x: &x {a: 1}\ny: {<<: *x, a: 2}") == {"x": {"a": 1}, "y": {"a": 2}}


@example("\x85")
@example("a\u2028b\u2029")
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False), st.lists, max_leaves=5))
def test_what_is_written_is_read_again_by_both_rules(value):
    text = write_yaml({"value": value, "surprises": [*SURPRISES, "5e-4", "1e3"]})
    assert read_yaml(text) == {"value": value, "surprises": [*SURPRISES, "5e-4", "1e3"]}
    assert yaml.safe_load(text) == read_yaml(text)


@pytest.mark.parametrize("word", ["exp #2", "010", "2024_01", "on", "1:30", "null"])
def test_the_output_goes_where_it_was_told_to(recipe_file, tmp_path, word):
    recipe = load_recipe(recipe_file, ["--output_dir", word])
    assert recipe.run_folder.name == word
    recipe.save(tmp_path / "kept.yaml")
    assert load_recipe(tmp_path / "kept.yaml").run_folder.name == word


def test_arguments_of_the_trainer_are_as_in_python(recipe_file, tmp_path):
    raw = yaml.safe_load(recipe_file.read_text())
    raw["training"] |= {
        "report_to": ["tensorboard", "wandb"],
        "max_grad_norm": None,
        "lr_scheduler_kwargs": {"timescale": 5},
        "logging_steps": 0.1,
        "include_for_metrics": ["loss"],
        "debug": [],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw))
    training = load_recipe(tmp_path / "recipe.yaml").training
    assert (training.report_to, training.max_grad_norm) == (["tensorboard", "wandb"], None)
    assert (training.lr_scheduler_kwargs, training.logging_steps) == ({"timescale": 5}, 0.1)
    assert (training.include_for_metrics, training.debug) == (["loss"], [])
