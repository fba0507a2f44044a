import pytest

from hf_paretokd import LanguagePair, encode_split, train_tokenizer
from hf_paretokd.data.tokenizer import check_text_tags
from hf_paretokd.errors import TokenizerError

HARD = [
    '"quotes" «guillemets» ’apostrophe’',
    "two  spaces",
    "漢字 かな 한국어",
    "emoji 😀",
    "tab\there",
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
