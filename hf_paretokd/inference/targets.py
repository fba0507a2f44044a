"""Into which language a text goes: by its own tag, by one that was asked for, or by none because the model needs none."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from hf_paretokd.data.languages import check_tags, known_tags, language_codes
from hf_paretokd.data.pairs import TAG, like_a_tag, target_tag
from hf_paretokd.errors import TokenizerError

NONE = "none"  # for models that know tags but were trained without


@dataclass(frozen=True)
class Targets:
    """The target tags of a model, and what a text without one gets.

    Args:
        known: the tags, such as `>>de<<`.
        default: the tag of a text that has none of its own, or nothing; None where the text has to say it.
        strips: whether the tokenizer takes everything from `>>` to `<<` at the start of a text for a tag, as Marian's does.
    """

    known: tuple[str, ...]
    default: str | None
    strips: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, language: str | None = None) -> "Targets":
        """The targets of a tokenizer's model.

        Args:
            tokenizer: whose vocabulary holds the tags.
            language: of text without a tag, such as `de`; `none` leaves it as it is, as does a model with one target language
                or one that is told languages otherwise.

        Raises:
            TokenizerError: the tokenizer knows no such language, or its family is not supported.
        """
        known, marian = tuple(known_tags(tokenizer)), hasattr(tokenizer, "supported_language_codes")
        if language_codes(tokenizer) or not (known or marian):
            return cls((), "", False)
        default = "" if language == NONE or len(known) < 2 else None
        if language and language != NONE:
            default = target_tag(language.removeprefix(">>").removesuffix("<<"))
            check_tags(tokenizer, [default])
        return cls(known, default, marian)

    def split(self, text: str) -> tuple[str, str]:
        """The tag of a text, or nothing, and the text without it.

        Raises:
            TokenizerError: the tag is unknown, or there is none and the model has to be told.
        """
        text = text.strip()
        match = TAG.match(text)
        if match and match[0] in self.known:
            return match[0], text[match.end() :].strip()
        unknown = match[0] if match else None
        if self.strips and not self.default and like_a_tag(text):
            unknown = unknown or text[: text.index("<<") + 2]
        if unknown and self.strips:
            raise TokenizerError(f"the tag {unknown} is unknown to the model (it knows {', '.join(self.known) or 'none'})")
        if self.default is None:
            raise TokenizerError(
                f"no target language: put one of {', '.join(self.known)} before the text, or name the language for all text "
                "without (--to, tgt_lang; none leaves it as it is)"
            )
        return self.default, text

    def tagged(self, text: str) -> str:
        """The text with its tag before it; raises as `split`."""
        tag, text = self.split(text)
        return f"{tag} {text}" if tag else text
