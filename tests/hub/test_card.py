import pytest
from huggingface_hub import ModelCard

from hf_paretokd import LanguagePair
from hf_paretokd.errors import UploadError
from hf_paretokd.hub.card import CardFacts, ModelScore, check_card_languages, render_card
from hf_paretokd.methods.registry import facts_of


def test_cards_are_valid_and_say_what_is_known():
    pairs = [LanguagePair("en", "de"), LanguagePair("en", "no")]
    score = ModelScore("en-de", "bleu", 31.25, "tok:13a", 30.1, 32.4)
    card = ModelCard(
        render_card(
            CardFacts(
                "6-2",
                "6-6",
                facts_of("all_in_one"),
                2_260_000,
                pairs,
                (">>de<<", ">>no<<"),
                scores=[score],
                license="cc-by-4.0",
            )
        )
    )
    assert card.data.pipeline_tag == "translation"
    assert card.data.language == ["de", "en", "no"]
    assert "6 encoder and 2 decoder layers, 2.26 million parameters, the first layers of a 6-6 teacher" in card.text
    assert ">>de<< >>no<<" in card.text
    assert "| en-de | 31.2 (30.1–32.4) |" in card.text
    assert card.data.license == "cc-by-4.0"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.metric_args["confidence_interval_95"]) == (
        "bleu",
        31.25,
        [30.1, 32.4],
    )
    plain = render_card(CardFacts("2-2", "2-2", facts_of("plain"), 1_000_000)).split("## Citation")[0]
    assert "teacher" not in plain
    assert "All-in-One" not in plain
    assert "No license was stated" in plain


@pytest.mark.parametrize(
    ("pairs", "named", "codes", "tags"),
    [
        (["zh_Hant-en", "en-pt_BR"], (), ["en", "pt", "zh"], ["pt-BR", "zh-Hant"]),
        (["zho_Hans-eng"], (), ["en", "zh"], ["zh-Hans"]),
        (["de-en"], (), ["de", "en"], None),
        (["jp-en"], (), ["en"], None),
        (["jp-en"], ("ja", "en"), ["en", "ja"], None),
    ],
)
def test_languages_are_as_the_hub_has_them(pairs, named, codes, tags):
    parsed = [LanguagePair.parse(pair) for pair in pairs]
    card = ModelCard(render_card(CardFacts("6-2", "6-6", facts_of("plain"), 9, parsed, languages=named)))
    assert card.data.language == codes
    assert getattr(card.data, "language_bcp47", None) == tags
    unknown = [each for each in named or pairs if "jp" in each]
    if unknown:
        with pytest.raises(UploadError, match="language 'jp': is no ISO 639 code"):
            check_card_languages(parsed, named)
    else:
        check_card_languages(parsed, named)
