import pytest
import sentencepiece

from hf_paretokd import LanguagePair, encode_split, train_tokenizer
from hf_paretokd.data.languages import check_text_tags
from hf_paretokd.errors import TokenizerError

HARD = [
    '"quotes" «guillemets» ’apostrophe’',
    "漢字 かな 한국어",
    "emoji 😀",
    "ﬁ ligature Ｆｕｌｌ",
    "zero\u200bwidth",
    "…",
    "ℌ𝔢𝔩𝔩𝔬",
]


@pytest.mark.parametrize("joint", [True, False])
def test_round_trip_is_exact(texts, tmp_path, joint):
    text = next(iter(texts["train"].values()))
    both = {LanguagePair("fr", "en"): text, LanguagePair("fr", "de"): text}
    tokenizer = train_tokenizer(both, tmp_path, 900, joint=joint)
    from transformers import AutoTokenizer

    for each in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        vocabulary = each.get_vocab()
        assert vocabulary["</s>"] == 0
        assert vocabulary["<unk>"] == 1
        assert each.pad_token_id == len(each) - 1 == max(vocabulary.values())
        assert {">>en<<", ">>de<<"} <= set(vocabulary)
        for line in [*HARD, *text.targets[:200]]:
            assert each.decode(each(text_target=line)["input_ids"], skip_special_tokens=True) == line
            assert each.unk_token_id not in each(line)["input_ids"]
        ids = each(">>de<< " + text.sources[0])["input_ids"]
        assert ids[0] == vocabulary[">>de<<"]
        assert ids[-1] == 0


def test_without_byte_fallback_text_is_normalised(texts, tmp_path):
    tokenizer = train_tokenizer(texts["train"], tmp_path, 500, byte_fallback=False)
    assert tokenizer.unk_token_id in tokenizer("漢")["input_ids"]
    assert tokenizer.decode(tokenizer(text_target="in  3  hours")["input_ids"], skip_special_tokens=True) == "in 3 hours"


def test_impossible_vocabularies_and_unknown_tags_are_refused(texts, tokenizer, tmp_path):
    with pytest.raises(TokenizerError, match="vocab_size"):
        train_tokenizer(texts["train"], tmp_path, 100)
    check_text_tags(tokenizer, [">>en<< x", "no tag"])
    with pytest.raises(TokenizerError, match=r">>zz<< is unknown to the tokenizer \(it knows >>en<<\)"):
        check_text_tags(tokenizer, [">>zz<< x"])
    pair = next(iter(texts["test"]))
    with pytest.raises(TokenizerError, match=">>xx<<"):
        encode_split({LanguagePair("fr", "xx"): texts["test"][pair]}, tokenizer, "always")


@pytest.mark.parametrize("byte_fallback", [True, False])
def test_white_space_means_as_little_to_sentencepiece_as_to_the_tokenizer(texts, tmp_path, byte_fallback):
    """With its tag or without: what is at the ends is nothing, what is inside is one space; a tag inside is text."""
    both = {LanguagePair("en", target): next(iter(texts["train"].values())) for target in ("fr", "bs")}
    tokenizer = train_tokenizer(both, tmp_path, 700, byte_fallback=byte_fallback)
    vocabulary, pieces = tokenizer.get_vocab(), sentencepiece.SentencePieceProcessor(str(tmp_path / "source.spm"))

    def by_hand(text, tag=None):
        return [
            vocabulary.get(each, tokenizer.unk_token_id)
            for each in [*filter(None, [tag]), *pieces.encode(text, out_type=str), "</s>"]
        ]

    text = "dans 3 >>bs<< heures"
    wanted = tokenizer(text)["input_ids"]
    assert ">>bs<<" not in tokenizer.tokenize(text)
    for spaced in (" dans 3  >>bs<< heures  ", "\tdans\u00a03 \u2009>>bs<< heures\r\n", "\u3000dans 3 >>bs<<\u2028heures"):
        assert tokenizer(spaced)["input_ids"] == by_hand(spaced) == by_hand(spaced.strip()) == wanted
        for tagged in (f">>fr<< {spaced}", f">>fr<<{spaced}"):
            assert tokenizer(tagged)["input_ids"] == by_hand(spaced, ">>fr<<") == [vocabulary[">>fr<<"], *wanted]
        assert tokenizer(text_target=spaced)["input_ids"] == wanted
    assert not byte_fallback or tokenizer.decode(wanted, skip_special_tokens=True) == text
