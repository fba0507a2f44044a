"""Ids of many texts at once are those of the tokenizer, text by text."""

import pytest
from odd import odd_lines
from transformers import MarianTokenizer

from hf_paretokd import LanguagePair, train_tokenizer
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.languages import takes_for_text
from hf_paretokd.data.pieces import BatchEncoder


@pytest.fixture(scope="module", params=["joint", "separate", "normalised", "tagged"])
def made(request, texts, tmp_path_factory):
    """A tokenizer of each kind, and what stands before sources."""
    known, options = texts["train"], {"joint": request.param != "separate", "byte_fallback": request.param != "normalised"}
    if request.param == "tagged":
        known = {
            LanguagePair("en", pair.source): ParallelText(LanguagePair("en", pair.source), "train", text.targets, text.sources)
            for pair, text in known.items()
        }
    tokenizer = train_tokenizer(known, tmp_path_factory.mktemp(request.param), vocab_size=900, max_length=64, **options)
    return tokenizer, ">>fr<< " if request.param == "tagged" else "", next(iter(known.values()))


def test_batches_are_what_the_tokenizer_gives(made):
    tokenizer, before, text = made
    fits = takes_for_text(tokenizer)
    lines = [line for line in odd_lines(text.sources + text.targets, 5000, 1) if fits(line)]
    assert len(lines) > 4500
    batches = BatchEncoder(tokenizer, before, threads=2)
    assert BatchEncoder.suits(tokenizer)
    assert batches.sources(lines).to_pylist() == tokenizer([before + line for line in lines])["input_ids"]
    assert batches.targets(lines).to_pylist() == tokenizer(text_target=lines)["input_ids"]
    assert batches.sources([]).to_pylist() == []
    assert batches.sources(["", " "]).to_pylist() == tokenizer([before, f"{before} "])["input_ids"]


def test_other_tokenizers_are_asked_themselves(made):
    tokenizer, _, _ = made

    class Other(MarianTokenizer):
        """Which may do anything."""

    other = Other.from_pretrained(tokenizer.spm_files[0].rpartition("/")[0])
    assert not BatchEncoder.suits(other)
    more = MarianTokenizer.from_pretrained(tokenizer.spm_files[0].rpartition("/")[0])
    assert BatchEncoder.suits(more)
    more.add_tokens(["heures"])
    assert not BatchEncoder.suits(more)
