"""The same text means the same to everything that runs a model: transformers 4 and 5, raw SentencePiece, our exports."""

import sys

import pytest
import sentencepiece
from runtimes import FIRST, HERE, OLD, Places, ended, outside
from transformers import AutoTokenizer

from hf_paretokd import LanguagePair

ODD = [
    "été à Noël",
    "漢字 かな 한국어",
    "emoji 😀 👍🏽",
    "a >>en<< b",
    "ﬁ ligature Ｆｕｌｌ",
    "zero\u200bwidth",
    "« guillemets » — tiret",
    "naïve",
]
SPACES = ["  {}", "{}  ", " {} ", "\t{}", "{}\u00a0", "\u3000{}"]


@pytest.fixture(scope="module")
def cases(sentences):
    """(tag, text): 100 texts, half of them with a tag, in both spellings, some with odd characters or more spaces."""
    texts = [*ODD, *(SPACES[index % 6].format(text.replace(" ", "  ", index % 2)) for index, text in enumerate(sentences[:42]))]
    return [("", text) for text in texts] + [(">>en<<" + " " * (index % 2), text) for index, text in enumerate(texts)]


@pytest.fixture(scope="module")
def places(students, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    return Places.make(students / "3-2", folder, LanguagePair("fr", "en"), "ctranslate2", "onnx")


@pytest.fixture(scope="module")
def expected(places, cases):
    """The texts with their tags, what transformers 5 makes of them, and which of them come to an end."""
    texts = [tag + text for tag, text in cases]
    lines = HERE[FIRST](places, texts)
    assert len(texts) == 100
    assert len(set(lines)) > 30, "the model tells them apart"
    rows = ended(places, texts)
    assert len(rows) > 80
    return texts, lines, rows


def test_raw_sentencepiece_has_the_same_ids(places, cases):
    own = AutoTokenizer.from_pretrained(places.checkpoint)
    source = sentencepiece.SentencePieceProcessor(str(places.exports["ctranslate2"] / "source.spm"))
    pieces = [[*filter(None, [tag.strip()]), *source.encode(text, out_type=str)] for tag, text in cases]
    vocabulary = own.get_vocab()
    ids = [[*(vocabulary[piece] for piece in each), vocabulary["</s>"]] for each in pieces]
    assert ids == [own(tag + text)["input_ids"] for tag, text in cases]


@pytest.mark.parametrize("name", [name for name in HERE if name != FIRST])
def test_everything_that_runs_here_agrees_with_transformers(name, places, expected):
    texts, lines, rows = expected
    found = HERE[name](places, texts)
    assert [found[row] for row in rows] == [lines[row] for row in rows]


def test_transformers_4_agrees_without_this_package(places, expected, transformers_4):
    texts, lines, _ = expected
    report = outside([sys.executable, "-c", OLD], places.checkpoint, texts, {"PYTHONPATH": str(transformers_4)})
    own = AutoTokenizer.from_pretrained(places.checkpoint)
    assert report["version"].startswith("4.57")
    assert report["tokenizer"] == "MarianTokenizer", "not what tokenizer.json would be read by"
    assert (places.checkpoint / "tokenizer.json").is_file()
    assert report["ids"] == [own(text)["input_ids"] for text in texts]
    assert report["lines"] == lines
