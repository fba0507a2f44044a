"""Ids of many texts at once are those of the tokenizer, text by text."""

import random

import pytest
from transformers import MarianTokenizer

from hf_paretokd import LanguagePair, train_tokenizer
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.languages import takes_for_text
from hf_paretokd.data.pieces import BatchEncoder

SCRIPTS = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0x1100, 0x11FF), (0x3040, 0x30FF)]
SCRIPTS += [
    (0x4E00, 0x4FFF),
    (0xAC00, 0xACFF),
    (0x1F300, 0x1F64F),
    (0x2000, 0x206F),
    (0xE000, 0xE010),
    (0x1, 0x1F),
    (0xFE00, 0xFE0F),
]


def odd_lines(real: list[str], count: int, seed: int) -> list[str]:
    """Lines of many scripts, and real ones with odd characters at their ends and inside."""
    draw = random.Random(seed)
    character = lambda: chr(draw.randint(*draw.choice(SCRIPTS)))  # noqa: E731
    lines = []
    for number in range(count):
        if number % 2:
            lines.append("".join(character() for _ in range(draw.randint(0, 30))))
        else:
            line = draw.choice(real)
            place = draw.randint(0, len(line))
            lines.append(line[:place] + character() * draw.randint(0, 3) + line[place:] + character() * draw.randint(0, 2))
    return lines


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
