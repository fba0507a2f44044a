import pytest

from hf_paretokd import LanguagePair, encode_split, train_tokenizer
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.errors import DataError


def test_over_long_sentences_are_counted(texts, tokenizer):
    pair, text = next(iter(texts["test"].items()))
    encoded = encode_split({pair: text}, tokenizer, max_length=25)[str(pair)]
    assert len(encoded) + text.skipped["more tokens than max_length"] == len(text)
    assert 0 < len(encoded) < len(text)
    assert max(map(len, encoded["input_ids"])) <= 25
    with pytest.raises(DataError, match="max_length"):
        encode_split({pair: text}, tokenizer, max_length=2)


def test_several_targets_are_asked_for_by_tags(texts, tmp_path):
    """One-to-many and many-to-many: the tag is the first token of every source, at training as for a user."""
    text = next(iter(texts["train"].values()))
    turned = ParallelText(LanguagePair("en", "fr"), "train", text.targets, text.sources)
    pairs = {LanguagePair("fr", "en"): text, LanguagePair("en", "fr"): turned}
    tokenizer = train_tokenizer(pairs, tmp_path, 900)
    encoded = encode_split(pairs, tokenizer, max_length=96)
    for pair, tag in (("fr-en", ">>en<<"), ("en-fr", ">>fr<<")):
        first = encoded[pair][0]["input_ids"]
        assert first[0] == tokenizer.get_vocab()[tag]
        assert first == tokenizer(f"{tag} {pairs[LanguagePair.parse(pair)].sources[0]}")["input_ids"]
    alone = encode_split({LanguagePair("fr", "en"): text}, tokenizer, max_length=96)["fr-en"][0]["input_ids"]
    assert alone[0] != tokenizer.get_vocab()[">>en<<"], "one target needs no tag"
