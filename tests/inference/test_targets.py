import pytest

from hf_paretokd import encode_split, train_tokenizer
from hf_paretokd.errors import TokenizerError
from hf_paretokd.inference.targets import Targets


class Tokenizer:
    """What `Targets` looks at."""

    def __init__(self, *tags, marian=True):
        self.tags = tags
        if marian:
            self.supported_language_codes = list(tags)

    def get_vocab(self):
        return {"</s>": 0, "a": 1, **{tag: number for number, tag in enumerate(self.tags, 2)}}


SEVERAL = Tokenizer(">>de<<", ">>el<<")


@pytest.mark.parametrize(
    ("tokenizer", "language", "text", "wanted"),
    [
        (SEVERAL, None, ">>el<< a", (">>el<<", "a")),
        (SEVERAL, None, ">>el<<a", (">>el<<", "a")),
        (SEVERAL, "de", ">>el<< a", (">>el<<", "a")),  # its own tag counts
        (SEVERAL, "de", "  >>el<< a\n", (">>el<<", "a")),  # white space at the ends means nothing
        (SEVERAL, None, "\t>>el<<a ", (">>el<<", "a")),
        (SEVERAL, "de", "a", (">>de<<", "a")),
        (SEVERAL, "de", ">> a b << c", (">>de<<", ">> a b << c")),  # text, because a tag comes before it
        (SEVERAL, "none", "a", ("", "a")),
        (Tokenizer(">>de<<"), None, "a", ("", "a")),
        (Tokenizer(), None, "a", ("", "a")),
        (Tokenizer(marian=False), None, ">>x<< a", ("", ">>x<< a")),
    ],
)
def test_every_text_goes_into_the_language_it_names(tokenizer, language, text, wanted):
    targets = Targets.of(tokenizer, language)
    assert targets.split(text) == wanted
    assert targets.tagged(text) == " ".join(wanted).strip()


@pytest.mark.parametrize(
    ("tokenizer", "language", "text", "message"),
    [
        (SEVERAL, None, "a", "no target language: put one of >>de<<, >>el<< before the text"),
        (SEVERAL, None, ">>xx<< a", "the tag >>xx<< is unknown to the model"),
        (SEVERAL, "de", ">>xx<< a", "the tag >>xx<< is unknown"),
        (SEVERAL, None, "  >>xx<< a", "the tag >>xx<< is unknown to the model"),
        (SEVERAL, None, ">> a << b", "the tag >> a << is unknown"),
        (Tokenizer(), None, ">> a << b", "the tag >> a << is unknown to the model .it knows none."),
    ],
)
def test_a_text_without_a_language_is_refused(tokenizer, language, text, message):
    with pytest.raises(TokenizerError, match=message):
        Targets.of(tokenizer, language).split(text)


def test_an_unknown_language_is_refused_at_once(texts, tokenizer):
    with pytest.raises(TokenizerError, match="tag >>xx<< is unknown"):
        Targets.of(SEVERAL, "xx")
    tokenizer_with_languages = Tokenizer()
    tokenizer_with_languages.src_lang = "en"
    for use in (Targets.of, lambda each: encode_split(texts["test"], each)):
        with pytest.raises(TokenizerError, match="Tokenizer names languages by src_lang and tgt_lang"):
            use(tokenizer_with_languages)


def test_marian_takes_what_it_takes_for_a_tag(texts, tmp_path):
    """Why `>> a << b` is refused: MarianTokenizer makes one unknown token of all before the text."""
    tokenizer = train_tokenizer(texts["train"], tmp_path, vocab_size=600)
    assert tokenizer.tokenize(">> a << dans")[0] == ">> a <<"
    assert tokenizer(">> a << dans")["input_ids"][0] == tokenizer.unk_token_id
