import gzip
import json
import os

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from hf_paretokd import LanguagePair
from hf_paretokd.data.corpus import DataConfig, load_text, stream_text, text_of
from hf_paretokd.errors import DataError, RecipeError

DE_EN = LanguagePair("de", "en")


def read(folder, split="train", **fields):
    text = load_text(DataConfig(pairs=["de-en"], **{"data_dir": str(folder), **fields}), split)[DE_EN]
    return list(zip(text.sources, text.targets, strict=True)), text


LITERAL = [('er sagte "ja"', 'he said "yes"'), ("NA", "null"), ("a, b; c", "it's"), ("中文　字", "x\u2028y")]


def write_aligned(folder, rows, split="train", compress=False):
    folder.mkdir(parents=True, exist_ok=True)
    for column, language in enumerate(("de", "en")):
        data = ("\n".join(row[column] for row in rows) + "\n").encode()
        if compress:
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / f"{split}.{language}").write_bytes(data)


@pytest.mark.parametrize("place", ["", "de-en", "en-de"])
@pytest.mark.parametrize("compress", [False, True])
def test_aligned_files(tmp_path, place, compress):
    write_aligned(tmp_path / place, LITERAL, compress=compress)
    assert read(tmp_path)[0] == LITERAL


def test_other_formats_give_the_same_text(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.tsv").write_text("".join(f"{de}\t{en}\n" for de, en in LITERAL), "utf-8")
    (tmp_path / "de-en.jsonl").write_text("".join(json.dumps({"de": de, "en": en}) + "\n" for de, en in LITERAL), "utf-8")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"translation": {"de": de, "en": en}}) + "\n" for de, en in LITERAL))
    table = pyarrow.table({"de": [de for de, _ in LITERAL], "en": [en for _, en in LITERAL]})
    pyarrow.parquet.write_table(table, tmp_path / "c.parquet")
    for name in ("a.tsv", "{pair}.jsonl", "b.jsonl", "c.parquet"):
        assert read(tmp_path, train=name)[0] == LITERAL, name


def test_a_local_hub_data_set(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps({"de": de, "en": en}) + "\n" for de, en in LITERAL), "utf-8")
    assert read(None, data_dir=None, hub=str(folder))[0] == LITERAL
    with pytest.raises(DataError, match="no-such"):
        read(None, data_dir=None, hub=str(tmp_path / "no-such"))


def test_carriage_returns_and_byte_order_marks_go(tmp_path):
    tmp_path.joinpath("train.de").write_bytes("\ufeffeins\r\nzwei\r\n".encode())
    tmp_path.joinpath("train.en").write_bytes(b"one\ntwo")
    assert read(tmp_path)[0] == [("eins", "one"), ("zwei", "two")]


def test_skips_are_counted_with_a_place(tmp_path):
    rows = [("a", "b"), ("", "empty"), ("c", "  "), ("a", "b"), ("d</s>", "e"), (">>en<< f", "g"), ("h", "i"), ("a", "other")]
    rows += [("j", ">>xx<< k"), (">> l << m", "n"), ("o ▁", "p")]
    write_aligned(tmp_path, rows)
    write_aligned(tmp_path, rows, "test")
    found, text = read(tmp_path)
    assert found == [("a", "b"), ("h", "i"), ("a", "other")]
    assert text.skipped == {"empty side": 2, "duplicate pair": 1, "special token in the text": 5}
    assert text.examples["duplicate pair"].endswith("train.de:4")
    assert len(read(tmp_path, "test")[0]) == 4, "test text keeps its duplicates"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.de", b"gut\n\xff\xfe\n", r"train\.de:2: not UTF-8"),
        ("train.de", b"gut\nnul\0\n", r"train\.de:2: .*NUL"),
        ("train.de", b"eins\nzwei\ndrei\n", r"train\.de:3: no partner line; train\.de has 3 lines and train\.en has 2"),
        ("train.en", b"one\n", r"train\.de:2: no partner"),
        ("train.de", b"", r"no partner"),
        ("train.de", None, r"other side train\.de"),
    ],
)
def test_bad_aligned_files(tmp_path, name, content, message):
    write_aligned(tmp_path, [("eins", "one"), ("zwei", "two")])
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "eins\tone\nzwei\n", r"a\.tsv:2: expected source<TAB>target, found 1"),
        ("a.tsv", "eins\tone\tx\n", r"a\.tsv:1: .* found 3"),
        ("a.jsonl", '{"de": "x"\n', r"a\.jsonl:1: not JSON"),
        ("a.jsonl", '{"de": "x"}\n', r"a\.jsonl:1: field 'en' is missing"),
        ("a.jsonl", '{"de": "x", "en": 3}\n', r"a\.jsonl:1: field 'en' is not text"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: expected an object"),
        ("a.jsonl", '{"de": "x\\ud800", "en": "y"}\n', r"a\.jsonl:1: holds half of a surrogate pair"),
        ("a.jsonl", '{"de": "x", "en": "y\\u0000"}\n', r"a\.jsonl:1: holds a NUL"),
        ("a.jsonl", '{"de": ' + "[" * 99999, r"a\.jsonl:1: not JSON that can be read"),
        ("a.jsonl", '{"de": ' + "1" * 5000 + "}", r"a\.jsonl:1: not JSON that can be read"),
        ("a.tsv", "eins\tone\rzwei\ttwo\r", r"a\.tsv: all one line, with CR alone"),
        ("a.tsv", "eins\tone\rzwei\ttwo\r\n", r"a\.tsv: all one line, with CR alone"),
        ("a.parquet", "no parquet", r"a\.parquet: not readable as parquet"),
        ("a.jsonl", "", "no usable sentence pair"),
    ],
)
def test_bad_other_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path, train=name)


def test_parquet_whose_text_is_not_utf8(tmp_path):
    columns = {name: pyarrow.array([b"eins", b"\xff\xfe"], pyarrow.binary()).view(pyarrow.string()) for name in ("de", "en")}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: not readable as parquet .*utf-8"):
        read(tmp_path, train="a.parquet")


def test_missing_places_and_broken_gzip(tmp_path):
    with pytest.raises(DataError, match="looked for"):
        read(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        read(tmp_path / "nothing")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path, train="a.tsv")
    write_aligned(tmp_path, LITERAL, compress=True)
    (tmp_path / "train.de.gz").write_bytes((tmp_path / "train.de.gz").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"train\.de\.gz: cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pairs": []}, "data.pairs"),
        ({"pairs": ["deen"]}, "deen"),
        ({"pairs": ["de-de"]}, "de-de"),
        ({"pairs": ["de-en", "de-en"]}, "2 times"),
        ({"target_tags": "often"}, "target_tags"),
        ({"data_dir": "x", "hub": "y"}, "exclude"),
        ({"train": "{lang}.tsv"}, "train"),
        ({"max_length": 1}, "max_length"),
    ],
)
def test_bad_data_sections(fields, message):
    with pytest.raises(RecipeError, match=message):
        DataConfig(**{"pairs": ["de-en"], **fields})


def test_packed_files_of_all_formats(tmp_path):
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress("".join(f"{de}\t{en}\n" for de, en in LITERAL).encode()))
    lines = "".join(json.dumps({"de": de, "en": en}) + "\n" for de, en in LITERAL)
    (tmp_path / "de-en.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for name in ("a.tsv.gz", "{pair}.jsonl.gz"):
        assert read(tmp_path, train=name)[0] == LITERAL, name


def test_blank_lines_are_rows_without_text(tmp_path):
    (tmp_path / "a.tsv").write_text("eins\tone\n\nzwei\ttwo\n  \n")
    (tmp_path / "a.jsonl").write_text('{"de": "eins", "en": "one"}\n\n{"de": "zwei", "en": "two"}\n\n')
    for name in ("a.tsv", "a.jsonl"):
        rows, text = read(tmp_path, train=name)
        assert rows == [("eins", "one"), ("zwei", "two")]
        assert text.skipped == {"empty side": 2}
        assert text.examples["empty side"].endswith(f"{name}:2")


def test_a_header_says_which_column_is_which(tmp_path):
    (tmp_path / "a.tsv").write_text("en\tid\tde\none\t1\teins\n\ntwo\t2\tzwei\n")
    assert read(tmp_path, train="a.tsv")[0] == [("eins", "one"), ("zwei", "two")]
    (tmp_path / "b.tsv").write_text("de\ten\neins\tone\textra\n")
    with pytest.raises(DataError, match=r"b.tsv:2: expected source<TAB>target, found 3"):
        read(tmp_path, train="b.tsv")


@pytest.mark.parametrize("header", ["EN\tDE", " en \t de ", "target\tsource", "TARGET\tid\tSource"])
def test_headers_are_recognised_however_they_are_written(tmp_path, header):
    (tmp_path / "a.tsv").write_text(f"{header}\n" + ("one\t1\teins\n" if "id" in header else "one\teins\n"))
    assert read(tmp_path, train="a.tsv")[0] == [("eins", "one")]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("de\ten\ten", "the header has two columns en"),
        ("de\tfr", "seems to be a header, and has no column en; name the languages of de-en"),
        ("pt_BR\tEN", "seems to be a header, and has no column de"),
    ],
)
def test_headers_that_are_not_clear_are_refused(tmp_path, header, message):
    (tmp_path / "a.tsv").write_text(f"{header}\neins\tone\n")
    with pytest.raises(DataError, match=f"a.tsv:1: {message}"):
        read(tmp_path, train="a.tsv")


@pytest.mark.parametrize("name", ["a.csv", "a.tmx", "a.tsv.zst", "a.tsv.bz2"])
def test_formats_that_are_not_read_are_called_so(tmp_path, name, monkeypatch):
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=f"{name}: its format is not read; convert it to one of .tsv"):
        read(tmp_path, train=name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=rf"'{name}' is no \.tsv, \.jsonl or \.parquet file; convert it"):
        load_text(DataConfig(pairs=["de-en"], train=name), "train")


def test_endings_are_read_without_regard_to_case(tmp_path):
    (tmp_path / "a.TSV").write_text("eins\tone\n")
    (tmp_path / "b.tsv.GZ").write_bytes(gzip.compress(b"eins\tone\n"))
    for name in ("a.TSV", "b.tsv.GZ"):
        assert read(tmp_path, train=name)[0] == [("eins", "one")]


def test_what_is_there_and_no_file_is_not_said_to_be_missing(tmp_path):
    (tmp_path / "a.parquet").mkdir()
    with pytest.raises(DataError, match=r"a\.parquet: is a folder; name a file in it"):
        read(tmp_path, train="a.parquet")
    os.mkfifo(tmp_path / "a.tsv")
    with pytest.raises(DataError, match=r"a\.tsv: is no regular file"):
        read(tmp_path, train="a.tsv")


def test_why_nothing_was_left_is_counted_with_a_place(tmp_path):
    (tmp_path / "a.tsv").write_text("eins\t\n\tone\nx\t>>de<< y\n")
    wanted = r"no usable sentence pair \(2 empty side, first at .*a\.tsv:1; 1 .*, first at .*a\.tsv:3\)"
    config = DataConfig(pairs=["de-en"], data_dir=str(tmp_path), train="a.tsv")
    with pytest.raises(DataError, match=wanted):
        load_text(config, "train")
    with pytest.raises(DataError, match=wanted):
        list(stream_text(config)[DE_EN].sources)


def test_one_tsv_for_several_pairs_needs_a_header(tmp_path):
    (tmp_path / "a.tsv").write_text("eins\tone\n")
    config = DataConfig(pairs=["de-en", "en-de"], data_dir=str(tmp_path), train="a.tsv")
    with pytest.raises(DataError, match=r"a.tsv:1: several pairs are read from this file, .* put \{pair\} into its name"):
        load_text(config, "train")
    (tmp_path / "a.tsv").write_text("de\ten\neins\tone\n")
    found = load_text(config, "train")
    assert [(text.sources, text.targets) for text in found.values()] == [(["eins"], ["one"]), (["one"], ["eins"])]


def test_text_in_memory_is_read_by_the_same_rules():
    rows = [{"fr": "dans 3 heures", "en": "in 3 hours"}, {"fr": " ", "en": "x"}, {"fr": "dans 3 heures", "en": "in 3 hours"}]
    text = text_of(datasets.Dataset.from_list(rows), "fr-en")
    assert (text.sources, text.targets, text.split) == (["dans 3 heures"], ["in 3 hours"], "train")
    assert dict(text.skipped) == {"empty side": 1, "duplicate pair": 1}
    assert len(text_of(rows, LanguagePair("fr", "en"), "test")) == 2
    assert text_of([{"translation": rows[0]}], "en-fr").sources == ["in 3 hours"]
    for bad, message in (([{"fr": "a"}], "row 1: field 'en' is missing"), ([{"fr": "a", "en": 3}], "field 'en' is not text")):
        with pytest.raises(DataError, match=message):
            text_of(bad, "fr-en")
    with pytest.raises(RecipeError, match="language pair 'french'"):
        text_of(rows, "french")
