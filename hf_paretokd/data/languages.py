"""How a model is told which languages it translates; everything that asks it to translate asks here.

| family | told by |
|---|---|
| Marian | a target tag such as `>>de<<` before the source, if the model has several target languages |
| M2M100, NLLB, mBART | codes of its tokenizer (`src_lang`, `tgt_lang`); the output begins with the target's token |
| T5 and others | words before the source that its configuration or `data.source_prefix` names, or nothing |
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import langcodes
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.pairs import TAG, LanguagePair, filled_in, like_a_tag, pairs_among, source_tags
from hf_paretokd.data.pieces import SPACE
from hf_paretokd.errors import RecipeError, TokenizerError

CODED = ("M2M100Tokenizer", "NllbTokenizer", "MBartTokenizer", "MBart50Tokenizer")
CODE = re.compile(r"[a-z]{2,3}_[A-Za-z]{2,4}")  # of NLLB and mBART, among their special tokens
PREFIXES = ("task_specific_params", "prefix")  # of a configuration, with words before the source
TASK = re.compile(r"translation_(\w+)_to_(\w+)")  # in `task_specific_params`, as transformers 4 reads it


@dataclass(frozen=True)
class Direction:
    """What a model is told of the languages it translates.

    Args:
        before: what stands before the source text: a target tag and a space, or words such as `translate French to English: `.
        src_lang: the tokenizer's code of the source language, if it has codes.
        tgt_lang: that of the target language.
    """

    before: str = ""
    src_lang: str | None = None
    tgt_lang: str | None = None

    def __str__(self) -> str:
        return f"{self.src_lang} > {self.tgt_lang}" if self.tgt_lang else self.before

    @property
    def tag(self) -> str:
        """The target tag, if that is what stands before the text."""
        return self.before.strip() if TAG.fullmatch(self.before.strip()) else ""


UNTOLD = Direction()


# ---- of language pairs, and of a text


def directions(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Iterable[LanguagePair],
    target_tags: str = "needed",
    source_prefix: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> dict[LanguagePair, Direction]:
    """How a model is told each of its language pairs.

    Args:
        tokenizer: the model's.
        pairs: all that it translates.
        target_tags: `needed` puts `>>xx<<` before the source if there are several target languages, `always` every time; for
            models that are told languages by tags.
        source_prefix: words before the source, in which `{source}` and `{target}` are filled in; default: those of `config`.
        config: the content of the model's `config.json`.

    Raises:
        TokenizerError: the tokenizer does not know a language, or is told languages in a way that is not supported.
        RecipeError: there is a prefix, but the model is told languages in another way.
    """
    pairs = list(pairs)
    if language_codes(tokenizer):
        if source_prefix:
            raise RecipeError(f"data.source_prefix: {type(tokenizer).__name__} is told languages by its codes; leave it out")
        return {pair: Direction("", *(find_code(tokenizer, each) for each in (pair.source, pair.target))) for pair in pairs}
    if source_prefix and known_tags(tokenizer):
        raise RecipeError("data.source_prefix: the model is told languages by target tags; leave it out")
    tags = source_tags(pairs, target_tags)
    if source_prefix is None:
        words = {pair: configured_prefix(config or {}, pair.source, pair.target) for pair in pairs}
    else:
        words = {pair: filled_in(source_prefix, pair, "data.source_prefix") for pair in pairs}
    found = {pair: Direction(words[pair] or tags[pair]) for pair in pairs}
    marian = hasattr(tokenizer, "supported_language_codes") or known_tags(tokenizer)
    if untold := next((pair for pair in pairs if tags[pair] and not words[pair] and not marian), None):
        raise TokenizerError(
            f"{untold}: {type(tokenizer).__name__} has no target tags; tell the model its languages by data.source_prefix, "
            "such as 'translate {source} to {target}: '"
        )
    check_tags(tokenizer, (tags[pair].strip() for pair in pairs if not words[pair]))
    return found


def coded_directions(tokenizer: PreTrainedTokenizerBase, names: Iterable[str]) -> dict[LanguagePair, Direction]:
    """What a model with language codes is told of data sets that are named after language pairs; others are left out."""
    found: dict[LanguagePair, Direction] = {}
    for pair in pairs_among(names) if language_codes(tokenizer) else ():
        try:
            found |= directions(tokenizer, [pair])
        except TokenizerError:
            continue  # a name like those of pairs
    return found


def asked(
    tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any], src_lang: str | None = None, tgt_lang: str | None = None
) -> Direction:
    """What a model is told of a text that is in `src_lang` and goes into `tgt_lang`; default: what the model was left with.

    Target tags are no part of it, because each text may have its own: see `inference.targets`.

    Args:
        tokenizer: the model's.
        config: the content of its `config.json`.
        src_lang: the source language by its name in pairs, or by the tokenizer's code.
        tgt_lang: the target language.

    Raises:
        TokenizerError: the model has to be told a language, and nothing says which; or it does not know it.
    """
    if codes := language_codes(tokenizer):
        target = tgt_lang or getattr(tokenizer, "tgt_lang", None)
        if not target:
            raise TokenizerError(
                f"no target language: name one of the {len(codes)} that the model knows, such as {first_few(codes)} "
                "(--to, tgt_lang), and the source language (--from, src_lang)"
            )
        source = src_lang or getattr(tokenizer, "src_lang", None) or ""
        return Direction("", find_code(tokenizer, source), find_code(tokenizer, target))
    if known_tags(tokenizer):
        return UNTOLD
    words = configured_prefix(config, src_lang, tgt_lang)
    if (src_lang or tgt_lang) and not words:
        raise TokenizerError(
            f"{src_lang or ''}-{tgt_lang or ''}: the model is not told which languages it translates; leave them out"
        )
    return Direction(words)


def configured_prefix(config: Mapping[str, Any], source: str | None, target: str | None) -> str:
    """The words that a model's configuration wants before the source, where transformers 4 looks for them.

    Raises:
        TokenizerError: it names several pairs, and which is meant is not known.
    """
    tasks = config.get("task_specific_params") or {}
    words = {match.groups(): str(task.get("prefix") or "") for name, task in tasks.items() if (match := TASK.fullmatch(name))}
    found = {text for (start, end), text in words.items() if source in (None, start) and target in (None, end)}
    if len(found) > 1:
        known = ", ".join(f"{start}-{end}" for start, end in words)
        raise TokenizerError(f"no languages: name the pair (--from and --to, src_lang and tgt_lang); the model knows {known}")
    return found.pop() if found else str(config.get("prefix") or "")


# ---- by codes


def language_codes(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The languages that a tokenizer names by `src_lang` and `tgt_lang`, and the ids of their tokens; nothing for others.

    The tokens become special ones where they are not, as in some repositories of M2M100, so that no text shows them; mBART-50
    gets the token of the beginning that transformers 5 does not give it and CTranslate2 wants to know.

    Raises:
        TokenizerError: it has `src_lang`, but is of a family that is not supported.
    """
    if not hasattr(tokenizer, "src_lang"):
        return {}
    kind, coded = type(tokenizer).__name__, tokenizer  # its class has more than the base says
    if kind.removesuffix("Fast") not in CODED:
        raise TokenizerError(
            f"{kind} names languages by src_lang and tgt_lang in a way of its own, which is not supported; take a model of "
            "Marian, M2M100, NLLB, mBART or T5"
        )
    if getattr(coded, "legacy_behaviour", False):
        raise TokenizerError(f"{kind}: its legacy_behaviour puts languages at the end of texts; set it to false")
    if coded.bos_token is None:
        coded.bos_token = coded.cls_token
    if hasattr(coded, "lang_token_to_id"):  # M2M100
        ranked = sorted(coded.lang_token_to_id, key=coded.lang_token_to_id.__getitem__)
        if not set(ranked) <= set(coded.all_special_tokens):
            coded.add_special_tokens({"extra_special_tokens": ranked})
        return dict(coded.lang_code_to_id)
    special = zip(coded.all_special_tokens, coded.all_special_ids, strict=True)
    return {token: number for token, number in special if CODE.fullmatch(token)}


def find_code(tokenizer: PreTrainedTokenizerBase, language: str) -> str:
    """The tokenizer's code of a language: itself, or the only one of that language (`fr` for `fr_XX` or `fra_Latn`).

    Raises:
        TokenizerError: there is none, or there are several.
    """
    codes = language_codes(tokenizer)
    if language in codes:
        return language
    alike = [code for code in codes if is_a(code, language)]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise TokenizerError(f"language {language!r}: the tokenizer knows {', '.join(alike)}; name one of them")
    raise TokenizerError(f"language {language!r} is unknown to the tokenizer (it knows {first_few(codes)})")


def is_a(code: str, language: str) -> bool:
    """Whether a code names a language, in the script and of the territory that the language names if it does."""
    try:
        ours, theirs = (langcodes.Language.get(each.replace("_", "-")) for each in (language, code))
    except ValueError:  # no tag of BCP 47
        return False
    more = ((ours.script, theirs.script), (ours.territory, theirs.territory))
    return ours.language == theirs.language and all(wanted in (None, there) for wanted, there in more)


def first_few(names: Iterable[str]) -> str:
    """Some names for an error."""
    listed = list(names)
    return ", ".join(listed[:5]) + (" …" if len(listed) > 5 else "")


@contextmanager
def told(tokenizer: Any, direction: Direction) -> Iterator[None]:
    """A tokenizer that writes texts in the languages of `direction` inside the `with`."""
    if not direction.tgt_lang:
        yield
        return
    before = tokenizer.src_lang, tokenizer.tgt_lang
    tokenizer.src_lang, tokenizer.tgt_lang = direction.src_lang, direction.tgt_lang
    try:
        yield
    finally:
        tokenizer.src_lang, tokenizer.tgt_lang = before


def encode(
    tokenizer: PreTrainedTokenizerBase,
    direction: Direction,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    **options: Any,
) -> BatchEncoding:
    """`input_ids` of sources, and `labels` of targets if there are any, with all that the model is told of their languages."""
    texts = [direction.before + source for source in sources]
    with told(tokenizer, direction):
        return tokenizer(texts, text_target=targets, **{"return_attention_mask": False, **options})


def target_token(tokenizer: PreTrainedTokenizerBase, direction: Direction) -> int | None:
    """The id with which the output begins; None for models that are told languages otherwise."""
    if not direction.tgt_lang:
        return None
    coded: Any = tokenizer
    token = coded.get_lang_token(direction.tgt_lang) if hasattr(coded, "get_lang_token") else direction.tgt_lang
    return coded.convert_tokens_to_ids(token)


def generation_arguments(tokenizer: PreTrainedTokenizerBase, direction: Direction) -> dict[str, int]:
    """What `generate` is given so that the output begins with the target's token.

    It is the first token to be made (`forced_bos_token_id`), but for the first mBART the one the decoder starts from.
    """
    token = target_token(tokenizer, direction)
    if token is None:
        return {}
    return {"forced_bos_token_id" if starts_as_usual(tokenizer) else "decoder_start_token_id": token}


def told_on_card(tokenizer: PreTrainedTokenizerBase, direction: Direction) -> tuple[str, str] | None:
    """The argument of `generate` that names the target language, and the token that is its value; None if there is none."""
    for name, token in generation_arguments(tokenizer, direction).items():
        return name, str(tokenizer.convert_ids_to_tokens(token))
    return None


def starts_as_usual(tokenizer: Any) -> bool:
    """Whether the decoder starts from the same token for all languages: the language comes first in a text, not last."""
    return bool(tokenizer.prefix_tokens)


def tell(model: PreTrainedModel, tokenizer: Any, found: Mapping[LanguagePair, Direction]) -> None:
    """Leaves a model and its tokenizer with what they are told where nothing else is said, as far as all pairs agree.

    The only target language goes into the generation configuration, the only pair into the tokenizer, words before the source
    into `task_specific_params`, where pipelines look for them.
    """
    known = set(found.values())
    targets = {each.tgt_lang for each in known}
    if None in targets:
        config: Any = model.config
        words = {pair: each.before for pair, each in found.items() if each.before}
        tasks = {f"translation_{pair.source}_to_{pair.target}": {"prefix": text} for pair, text in words.items()}
        if tasks and not known_tags(tokenizer):
            config.task_specific_params = {**(getattr(config, "task_specific_params", None) or {}), **tasks}
        return
    if len(targets) == 1 and model.generation_config is not None:
        model.generation_config.update(**generation_arguments(tokenizer, next(iter(known))))
    if len(known) == 1:
        only = next(iter(known))
        tokenizer.src_lang, tokenizer.tgt_lang = only.src_lang, only.tgt_lang


# ---- by target tags


def known_tags(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The target tags a tokenizer knows, such as `>>de<<`."""
    return sorted(token for token in tokenizer.get_vocab() if TAG.fullmatch(token))


def check_tagged(tokenizer: PreTrainedTokenizerBase, found: Iterable[Direction]) -> None:
    """Raises a RecipeError if a tokenizer knows several target tags and the text is to have none."""
    known = known_tags(tokenizer)
    if len(known) > 1 and not any(each.before for each in found):
        raise RecipeError(
            f"data.target_tags: the model knows {first_few(known)} and would be told none; give --data.target_tags always, or "
            "name all its pairs"
        )


def check_tags(tokenizer: PreTrainedTokenizerBase, tags: Iterable[str]) -> None:
    """Refuses tags the tokenizer would turn into `<unk>` without a word.

    Raises:
        TokenizerError: names the unknown tag and the known ones.
    """
    vocabulary = tokenizer.get_vocab()
    known = known_tags(tokenizer)
    for tag in tags:
        if tag and tag not in vocabulary:
            raise TokenizerError(
                f"tag {tag} is unknown to the tokenizer (it knows {', '.join(known) or 'none'}); train a tokenizer with this "
                "target language, or correct the tag"
            )


def reserved(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """What a tokenizer would not take for text wherever it stands: its special tokens, and SentencePiece's sign for a space."""
    pieces = any(entry.startswith(SPACE) for entry in tokenizer.get_vocab())
    return (*tokenizer.all_special_tokens, *((SPACE,) if pieces else ()))


def takes_for_text(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], bool]:
    """Whether a tokenizer takes all of a text for text, as a function of the text."""
    special, tags = reserved(tokenizer), hasattr(tokenizer, "supported_language_codes")
    return lambda text: not (tags and like_a_tag(text)) and not any(each in text for each in special)


def check_text_tags(tokenizer: PreTrainedTokenizerBase, sentences: Iterable[str]) -> None:
    """Applies `check_tags` to the tag at the start of every sentence that has one."""
    check_tags(tokenizer, {match[0] for sentence in sentences if (match := TAG.match(sentence))})
