from collections import Counter
from dataclasses import replace

import datasets
import pytest

from hf_paretokd.data import cache
from hf_paretokd.data.cache import digest
from hf_paretokd.errors import DataError


def test_the_same_text_is_encoded_once(texts, tokenizer, monkeypatch):
    from hf_paretokd.data import encoding

    calls = []
    build = encoding.encode_pair
    monkeypatch.setattr(encoding, "encode_pair", lambda *arguments: calls.append(1) or build(*arguments))
    split = {pair: replace(text, skipped=Counter()) for pair, text in texts["test"].items()}
    first = encoding.encode_split(split, tokenizer, max_length=17)
    count, skipped = len(calls), {pair: text.skipped[encoding.TOO_LONG] for pair, text in split.items()}
    again = encoding.encode_split(split, tokenizer, max_length=17)
    assert len(calls) == count == 2
    assert {pair: text.skipped[encoding.TOO_LONG] for pair, text in split.items()} == {p: 2 * n for p, n in skipped.items()}
    for pair in first:
        assert first[pair][:] == again[pair][:]
        assert again[pair].cache_files, "memory-mapped"
    encoding.encode_split(split, tokenizer, max_length=18)
    encoding.encode_split(split, tokenizer, "always", max_length=17)
    pair, text = next(iter(split.items()))
    encoding.encode_split({pair: replace(text, targets=[*text.targets[:-1], "another end"])}, tokenizer, max_length=17)
    assert len(calls) == count + 5, "another length, another tag, another text"


def test_a_digest_knows_where_texts_end():
    assert digest(["ab", "c"]) != digest(["a", "bc"]) != digest(["abc"])
    assert digest(["a"], ["b"]) != digest(["a", "b"], [])
    assert digest("a", ["b"]) == digest("a", iter(["b"]))


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "one bit":
        content[len(content) // 2] ^= 1
    path.write_bytes(content if how == "one bit" else content[:-9] if how == "cut" else b"")
    if how == "gone":
        path.unlink()


@pytest.mark.parametrize("how", ["one bit", "cut", "empty", "gone"])
@pytest.mark.parametrize("pattern", ["*.arrow", "state.json", "manifest.json"])
def test_a_damaged_cache_is_found_said_and_made_anew(monkeypatch, tmp_path, how, pattern):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    said = []
    monkeypatch.setattr(cache.logger, "warning", said.append)
    ids = [[number, number + 1] for number in range(500)]
    build = lambda: datasets.Dataset.from_dict({"input_ids": ids})  # noqa: E731
    assert cache.cached_dataset("key", build)["input_ids"][:] == ids
    (found,) = (tmp_path / "hf_paretokd" / "key").glob(pattern)
    spoil(found, how)
    assert cache.cached_dataset("key", build)["input_ids"][:] == ids
    assert len(said) == 1
    assert "made anew" in said[0]
    assert cache.cached_dataset("key", lambda: pytest.fail("it is whole"))["input_ids"][:] == ids
    assert [path.name for path in (tmp_path / "hf_paretokd").iterdir()] == ["key"]


def test_a_cache_that_cannot_be_written_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(cache, "publish", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DataError, match=r"token ids cannot be kept there .No space left on device.; set HF_DATASETS_CACHE"):
        cache.cached_dataset("key", lambda: datasets.Dataset.from_dict({"input_ids": [[1]]}))
    assert list((tmp_path / "hf_paretokd").iterdir()) == []
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file")
    with pytest.raises(DataError, match="file: token ids cannot be kept there"):
        cache.cached_dataset("key", lambda: datasets.Dataset.from_dict({"input_ids": [[1]]}))
