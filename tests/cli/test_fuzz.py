"""Random corpora and recipes: either they are used, or one of this library's errors says why not."""

import contextlib
import string

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_paretokd.data.corpus import DataConfig, load_text
from hf_paretokd.data.encoding import encode_split
from hf_paretokd.errors import ParetoKDError
from hf_paretokd.runs.recipe import load_recipe

BOUNDED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
LINE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["</s>", "<unk> x", ">>de<< y", "", " ", "\u2028", "\ufeff", "\x85", "\x1c", "a\tb", '"', "NA", "\\N", "𝒳" * 9]
    ),
)
NAMES = ["method", "data", "model", "training", "tokenizer", "evaluation", "all_in_one", "pairs", "data_dir", "max_steps"]
NAMES += ["output_dir", "d_model", "temperatures", "kd_weight", "candidates", "splits", "hub", "max_sentence_pairs"]
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(string.printable, max_size=12))
VALUE = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@BOUNDED
@given(lines=st.lists(st.tuples(LINE, LINE), max_size=8), noise=st.binary(max_size=6))
def test_corpus_lines(lines, noise, tmp_path, tokenizer):
    """Every line is used or counted as left out; bytes that are no text are refused."""
    sides = ["".join(line[side].replace("\n", " ") + "\n" for line in lines) for side in range(2)]
    for language, text, more in zip(("xx", "yy"), sides, (noise, b""), strict=True):
        (tmp_path / f"train.{language}").write_bytes(text.encode("utf-8", "replace") + more)
    config = DataConfig(pairs=["xx-yy"], data_dir=str(tmp_path))
    try:
        (text,) = load_text(config, "train").values()
    except ParetoKDError:
        return
    assert len(text) + sum(text.skipped.values()) >= len(lines)
    assert all(line.strip() for line in (*text.sources, *text.targets))
    with contextlib.suppress(ParetoKDError):
        rows = encode_split({next(iter(config.parsed_pairs)): text}, tokenizer)["xx-yy"]
        assert all(ids[-1] == tokenizer.eos_token_id for ids in rows["input_ids"])


@BOUNDED
@given(content=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), VALUE, max_size=5))
def test_recipes(content, tmp_path):
    """A mapping of anything is a recipe or a named error."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    with contextlib.suppress(ParetoKDError):
        load_recipe(path)


@BOUNDED
@given(content=st.binary(max_size=200))
def test_recipe_bytes(content, tmp_path):
    """So is any file."""
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ParetoKDError):
        load_recipe(path)


@BOUNDED
@given(
    words=st.lists(st.sampled_from(["--", "--max_steps", "--data.pairs", "--method", "-x"]) | st.text(max_size=8), max_size=5)
)
def test_overrides(words, tmp_path):
    """So is any command line."""
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {pairs: [de-en], data_dir: text}\ntraining: {output_dir: run}\n")
    with contextlib.suppress(ParetoKDError):
        load_recipe(path, words)
