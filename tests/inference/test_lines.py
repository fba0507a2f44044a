from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_paretokd import LanguagePair, train_tokenizer
from hf_paretokd.errors import DataError
from hf_paretokd.inference.lines import LineTranslator, split_long
from hf_paretokd.inference.targets import Targets
from hf_paretokd.utils.text import cleaned


@pytest.fixture(scope="module")
def echo(tokenizer):
    """Everything but the network: a decoder that gives back what it gets."""
    return LineTranslator(
        tokenizer, lambda ids, longest, beams, direction: ids, limit=24, targets=Targets.of(tokenizer), num_beams=1
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            st.text(alphabet="\r\t\v\f\x00\x1b\x85\u2028\u2029\ufeff ab", max_size=12),
            st.text(alphabet="ab. ", min_size=80, max_size=200),
        ).map(lambda text: text.replace("\n", " ").replace("<", "").encode("utf-8", "surrogatepass")),
        max_size=8,
    ),
    st.booleans(),
    st.integers(1, 5),
)
def test_as_many_lines_come_out_as_go_in(echo, lines, ended, buffer):
    content = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    raw = [line + b"\n" for line in content.split(b"\n")[:-1]] + (
        [content.split(b"\n")[-1]] if content.split(b"\n")[-1] else []
    )
    output = b"".join(echo.translate(raw, buffer))
    assert output.count(b"\n") == content.count(b"\n")
    text = output.decode()
    assert len(text.splitlines()) == len(text.split("\n")) - text.endswith("\n") - (not text)
    for row, (before, after) in enumerate(zip(raw, output.split(b"\n"), strict=False)):
        blank = not cleaned(before.decode("utf-8" if row else "utf-8-sig", "replace"))
        assert not (blank and after), "blank lines stay blank"


def test_long_lines_are_translated_in_pieces_cut_or_refused(echo):
    text = "dans 3 heures. " * 20 + "x" * 200
    pieces = echo.pieces(text.strip())
    assert len(pieces) > 5
    assert all(echo.tokens(piece) <= echo.limit for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert pieces[0].endswith("heures."), "cut at the end of a sentence"
    strict = replace(echo, long="refuse")
    produced = strict.translate([b"dans 3 heures\n", text.encode()], name="in.txt")
    assert next(produced) == b"dans 3 heures\n", "what came before is there"
    with pytest.raises(
        DataError, match=r"in\.txt:2: \d+ tokens, the model takes 24; --long split .*; --bad_lines skip or copy"
    ):
        next(produced)
    cut = b"".join(replace(echo, long="cut").translate([text.encode(), b"\n"])).decode()
    assert text.startswith(cut.strip())
    assert echo.tokens(cut) in (echo.limit, echo.limit - 1, echo.limit + 1)
    assert split_long("abcdefgh", lambda piece: len(piece) <= 2) == ["ab", "cd", "ef", "gh"]
    assert split_long("aa bb cc", lambda piece: len(piece) <= 5) == ["aa bb", "cc"]
    assert split_long("aa bb. cc dd ee", lambda piece: len(piece) <= 9) == ["aa bb.", "cc dd ee"]


def test_every_piece_of_a_long_line_carries_its_own_tag(echo, texts, tmp_path):
    tags = {">>fr<<", ">>el<<"}
    both = {LanguagePair("en", tag[2:4]): texts["train"][LanguagePair("fr", "en")] for tag in sorted(tags)}
    tokenizer = train_tokenizer(both, tmp_path, vocab_size=700)
    long = "dans 3 heures. " * 20
    for language, own, wanted in ((None, ">>el<< ", ">>el<<"), ("fr", ">>el<< ", ">>el<<"), ("fr", "", ">>fr<<")):
        translator = replace(echo, tokenizer=tokenizer, targets=Targets.of(tokenizer, language))
        pieces = translator.pieces(own + long.strip())
        assert len(pieces) > 5
        assert all(piece.startswith(wanted + " ") for piece in pieces)
        assert all(translator.tokens(piece) <= translator.limit for piece in pieces)
        assert " ".join(piece.removeprefix(wanted + " ") for piece in pieces) == long.strip()
        assert translator.pieces(wanted) == [], "a tag alone is a blank line"


BAD = {b"dans </s> heures\n": "holds </s>", b">>zz<< dans\n": "tag >>zz<< is unknown", b"a <pad> b\n": "holds <pad>"}


@pytest.mark.parametrize("bad", BAD)
def test_bad_lines_stop_are_skipped_or_copied(echo, caplog, monkeypatch, bad):
    said = []
    monkeypatch.setattr("hf_paretokd.inference.lines.logger.warning", said.append)
    lines = [b"dans 3 heures\n", b"\n", bad, b"il y a\n"]
    produced = echo.translate(lines, name="in.txt")
    assert [next(produced), next(produced)] == lines[:2], "what came before is there"
    with pytest.raises(DataError, match=f"in.txt:3: .*{BAD[bad]}.*; --bad_lines skip or copy goes on"):
        next(produced)
    assert not said
    assert list(replace(echo, bad_lines="skip").translate(lines, name="in.txt")) == [*lines[:2], b"\n", lines[3]]
    assert list(replace(echo, bad_lines="copy").translate(lines, name="in.txt")) == lines
    assert [text.split(": ")[:2] for text in said] == [["in.txt:3", "left blank"], ["in.txt:3", "copied"]]


def test_many_bad_lines_are_counted(echo, monkeypatch):
    said = []
    monkeypatch.setattr("hf_paretokd.inference.lines.logger.warning", said.append)
    found = list(replace(echo, bad_lines="skip").translate([b"</s>\n"] * 50, buffer=7, name="in.txt"))
    assert found == [b"\n"] * 50
    assert len(said) == 21
    assert said[-1] == "in.txt: 30 more bad lines"


def test_damaged_bytes_are_replaced_and_named(echo, caplog, monkeypatch):
    monkeypatch.setattr("hf_paretokd.inference.lines.logger.warning", lambda text: caplog.records.append(text))
    found = list(echo.translate([b"\xef\xbb\xbfdans\n", b"3 \xff heures\n", b"\xfe\n"], name="in.txt"))
    assert len(found) == 3
    assert found[0] == b"dans\n", "a byte order mark is no text"
    assert caplog.records == ["in.txt:2: not UTF-8; what cannot be read is replaced, here and further on"]
