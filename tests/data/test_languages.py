"""Every family is told its languages as transformers' own tokenizers and documentation have it."""

from types import SimpleNamespace

import pytest
from lookalikes import family_like
from transformers import AutoTokenizer

from hf_paretokd import LanguagePair, encode_split
from hf_paretokd.data.languages import (
    Direction,
    asked,
    coded_directions,
    directions,
    find_code,
    generation_arguments,
    language_codes,
    tell,
)
from hf_paretokd.errors import RecipeError, TokenizerError

FR_EN, EN_FR = LanguagePair("fr", "en"), LanguagePair("en", "fr")
CODES = {"m2m": ("fr", "en"), "nllb": ("fra_Latn", "eng_Latn"), "mbart": ("fr_XX", "en_XX"), "mbart50": ("fr_XX", "en_XX")}
T5 = {"task_specific_params": {"summarization": {"num_beams": 4}, "translation_fr_to_en": {"prefix": "translate: "}}}


@pytest.fixture(scope="module")
def repository(tmp_path_factory, texts):
    """A look-alike of a family, made once."""
    made = {}

    def build(kind):
        if kind not in made:
            lines = [*texts["train"][FR_EN].sources[:300], *texts["train"][FR_EN].targets[:300]]
            made[kind] = family_like(kind, tmp_path_factory.mktemp("families") / kind, lines)
        return made[kind]

    return build


@pytest.mark.parametrize("kind", CODES)
def test_codes_stand_where_the_tokenizer_puts_them(repository, kind, texts):
    source, target = CODES[kind]
    theirs = AutoTokenizer.from_pretrained(repository(kind), src_lang=source, tgt_lang=target)
    ours = AutoTokenizer.from_pretrained(repository(kind))
    kept = ours.src_lang, ours.tgt_lang
    text = texts["test"][FR_EN]
    encoded = encode_split({FR_EN: text}, ours, max_length=500)["fr-en"]
    expected = theirs(text.sources, text_target=text.targets)
    assert encoded["input_ids"] == expected["input_ids"]
    assert encoded["labels"] == expected["labels"]
    assert (ours.src_lang, ours.tgt_lang) == kept, "the tokenizer is left as it was"
    codes = {ours.convert_tokens_to_ids(f"__{code}__" if kind == "m2m" else code): code for code in (source, target)}
    place = -1 if kind == "mbart" else 0
    assert {codes[ids[place]] for ids in encoded["input_ids"]} == {source}
    assert {codes[ids[place]] for ids in encoded["labels"]} == {target}
    told = directions(ours, [FR_EN, EN_FR])
    assert told == {FR_EN: Direction("", source, target), EN_FR: Direction("", target, source)}
    token = next(number for number, code in codes.items() if code == target)
    name = "decoder_start_token_id" if kind == "mbart" else "forced_bos_token_id"
    assert generation_arguments(ours, told[FR_EN]) == {name: token}
    assert ours.decode([token], skip_special_tokens=True) == "", "no text shows a code"


def test_languages_are_found_by_their_usual_names(repository):
    nllb = AutoTokenizer.from_pretrained(repository("nllb"))
    found = {name: find_code(nllb, name) for name in ("de", "deu", "deu_Latn", "zh_Hans", "zh_Hant", "pt", "ko")}
    assert found == {
        "de": "deu_Latn",
        "deu": "deu_Latn",
        "deu_Latn": "deu_Latn",
        "zh_Hans": "zho_Hans",
        "zh_Hant": "zho_Hant",
        "pt": "por_Latn",
        "ko": "kor_Hang",
    }
    with pytest.raises(TokenizerError, match="language 'zh': the tokenizer knows zho_Hans, zho_Hant; name one of them"):
        find_code(nllb, "zh")
    for name in ("xx", "tlh", "no_such_language"):
        with pytest.raises(TokenizerError, match=f"language '{name}' is unknown to the tokenizer .it knows ace_Arab"):
            find_code(nllb, name)
    mbart = AutoTokenizer.from_pretrained(repository("mbart50"))
    assert [find_code(mbart, name) for name in ("pt", "pt_XX", "zh")] == ["pt_XX", "pt_XX", "zh_CN"]
    assert len(language_codes(mbart)) == 52
    with pytest.raises(TokenizerError, match="language 'pt_BR' is unknown"):
        find_code(mbart, "pt_BR")


def test_what_a_text_is_told_when_little_is_said(repository):
    tokenizer = AutoTokenizer.from_pretrained(repository("m2m"))
    with pytest.raises(TokenizerError, match=r"no target language: name one of the 100 .* such as af, am"):
        asked(tokenizer, {})
    assert asked(tokenizer, {}, tgt_lang="fr") == Direction("", "en", "fr")
    tokenizer.tgt_lang = "de"
    assert asked(tokenizer, {}) == Direction("", "en", "de")
    assert asked(tokenizer, {}, "fr", "en") == Direction("", "fr", "en")
    assert coded_directions(tokenizer, ["fr-en", "corpus", "news-web"]) == {FR_EN: Direction("", "fr", "en")}


def test_words_before_the_source(repository, texts, tokenizer):
    t5 = AutoTokenizer.from_pretrained(repository("t5"))
    assert directions(t5, [FR_EN], config=T5) == {FR_EN: Direction("translate: ")}
    assert directions(t5, [FR_EN], config={"prefix": "x "}) == {FR_EN: Direction("x ")}
    assert directions(t5, [FR_EN], source_prefix="", config=T5) == {FR_EN: Direction()}
    both = directions(t5, [FR_EN, EN_FR], source_prefix="{source} to {target}: ")
    assert both == {FR_EN: Direction("fr to en: "), EN_FR: Direction("en to fr: ")}
    text = texts["test"][FR_EN]
    encoded = encode_split({FR_EN: text}, t5, source_prefix="{source} to {target}: ")["fr-en"]
    assert encoded["input_ids"] == t5(["fr to en: " + source for source in text.sources])["input_ids"]
    assert encoded["labels"] == t5(text_target=text.targets)["input_ids"]
    with pytest.raises(TokenizerError, match=r"fr-en: T5Tokenizer has no target tags; tell .* by data\.source_prefix, such as"):
        directions(t5, [FR_EN, EN_FR])
    for other, message in ((tokenizer, "by target tags"), (AutoTokenizer.from_pretrained(repository("m2m")), "by its codes")):
        with pytest.raises(RecipeError, match=f"data.source_prefix: .*{message}"):
            directions(other, [FR_EN], source_prefix="x ")
    assert asked(t5, T5) == asked(t5, T5, "fr", "en") == Direction("translate: ")
    assert asked(t5, {}) == Direction()
    more = {"task_specific_params": {**T5["task_specific_params"], "translation_en_to_de": {"prefix": "to German: "}}}
    assert asked(t5, more, tgt_lang="de") == Direction("to German: ")
    with pytest.raises(TokenizerError, match=r"no languages: name the pair .* the model knows fr-en, en-de"):
        asked(t5, more)
    with pytest.raises(TokenizerError, match="fr-de: the model is not told which languages it translates"):
        asked(t5, {}, "fr", "de")
    assert asked(tokenizer, {}, tgt_lang="en") == Direction(), "tags are put there elsewhere"


def test_models_keep_what_they_are_told_where_all_pairs_agree(repository):
    def left(kind, pairs):
        tokenizer = AutoTokenizer.from_pretrained(repository(kind))
        settings = SimpleNamespace(update=lambda **words: settings.__dict__.update(words))
        model = SimpleNamespace(generation_config=settings, config=SimpleNamespace())
        prefix = "{source}-{target} " if kind == "t5" else None
        tell(model, tokenizer, directions(tokenizer, pairs, source_prefix=prefix))
        found = {name: value for name, value in vars(settings).items() if name != "update"}
        tasks = getattr(model.config, "task_specific_params", None)
        return found, getattr(tokenizer, "src_lang", None), getattr(tokenizer, "tgt_lang", None), tasks

    codes = language_codes(AutoTokenizer.from_pretrained(repository("m2m")))
    german = LanguagePair("de", "en")
    assert left("m2m", [FR_EN]) == ({"forced_bos_token_id": codes["en"]}, "fr", "en", None)
    assert left("m2m", [FR_EN, german]) == ({"forced_bos_token_id": codes["en"]}, "en", None, None)
    assert left("m2m", [FR_EN, EN_FR]) == ({}, "en", None, None)
    tasks = {"translation_fr_to_en": {"prefix": "fr-en "}, "translation_en_to_fr": {"prefix": "en-fr "}}
    assert left("t5", [FR_EN, EN_FR]) == ({}, None, None, tasks)


def test_tags_are_left_nowhere(tokenizer):
    model = SimpleNamespace(generation_config=None, config=SimpleNamespace())
    tell(model, tokenizer, directions(tokenizer, [FR_EN], "always"))
    assert not hasattr(model.config, "task_specific_params")


def test_families_that_are_told_otherwise_are_refused_by_name(repository):
    other = SimpleNamespace(src_lang="en")
    with pytest.raises(TokenizerError, match="SimpleNamespace names languages by src_lang and tgt_lang in a way of its own"):
        directions(other, [FR_EN])
    legacy = AutoTokenizer.from_pretrained(repository("nllb"), legacy_behaviour=True)
    with pytest.raises(TokenizerError, match="legacy_behaviour puts languages at the end of texts; set it to false"):
        directions(legacy, [FR_EN])
