"""Language pairs (`de-en`) and target tags (`>>en<<`)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hf_paretokd.errors import RecipeError

TAG = re.compile(r">>([^<>\s]+)<<")
TAG_RULES = ("needed", "always")


@dataclass(frozen=True, order=True)
class LanguagePair:
    """A translation direction, written `source-target`.

    Language codes may hold letters, digits and underscores (`de`, `pt_BR`, `zho_Hans`); the hyphen separates the two.
    """

    source: str
    target: str

    @classmethod
    def parse(cls, text: str) -> "LanguagePair":
        """Reads `de-en`.

        Raises:
            RecipeError: the text is not two different language codes joined by one hyphen.
        """
        match = re.fullmatch(r"(\w+)-(\w+)", str(text))
        if match is None or match[1] == match[2]:
            raise RecipeError(
                f"language pair {text!r}: expected two different codes joined by one hyphen, such as de-en or pt_BR-en; files "
                "and columns are called alike"
            )
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


def pairs_among(names: Iterable[str]) -> list[LanguagePair]:
    """Those of some names that are language pairs; a lone data set may be called anything."""
    return [LanguagePair.parse(name) for name in names if re.fullmatch(r"\w+-\w+", name)]


def like_a_tag(text: str) -> bool:
    """Whether Marian's tokenizers would take the beginning of a text, up to `<<`, for one token that names a language."""
    return text.startswith(">>") and "<<" in text


def target_tag(language: str) -> str:
    """The tag that asks for `language` at the start of a source sentence, in Marian's form `>>xx<<`."""
    return f">>{language}<<"


def source_tags(pairs: Iterable[LanguagePair], rule: str) -> dict[LanguagePair, str]:
    """What goes before the source text of each pair: the tag and a space, or nothing.

    The space belongs to it: without normalisation a tokenizer tells `>>de<< text` from `>>de<<text`, and people write
    the former.

    Args:
        pairs: all directions of one model.
        rule: `needed` puts tags only when the model has several target languages, `always` puts them everywhere.
    """
    if rule not in TAG_RULES:
        raise RecipeError(f"data.target_tags: {rule!r} is not one of {', '.join(TAG_RULES)}")
    pairs = list(pairs)
    tagged = rule == "always" or len({pair.target for pair in pairs}) > 1
    return {pair: f"{target_tag(pair.target)} " if tagged else "" for pair in pairs}


def filled_in(value: str, pair: LanguagePair, where: str) -> str:
    """Text with `{pair}`, `{source}` and `{target}` filled in; errors name `where`.

    Raises:
        RecipeError: another name stands in braces.
    """
    try:
        return value.format(pair=pair, source=pair.source, target=pair.target)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise RecipeError(f"{where}: {value!r} may hold {{pair}}, {{source}} and {{target}} only") from error
