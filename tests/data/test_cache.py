from collections import Counter
from dataclasses import replace

from hf_paretokd.data.cache import digest


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
