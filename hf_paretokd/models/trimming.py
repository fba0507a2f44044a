"""A Marian model with a smaller vocabulary: SentencePiece models, embeddings, bias and ids keep the pieces that a text needs.

A unigram SentencePiece model segments text by its most probable pieces, so that text whose pieces are all kept is segmented as
before, and what the model makes of it is the same, as far as it chooses kept pieces.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.pairs import TAG
from hf_paretokd.data.pieces import SPACE, is_unigram
from hf_paretokd.data.tokenizer_json import write_tokenizer_json
from hf_paretokd.errors import ModelError, RecipeError
from hf_paretokd.layout import (
    ADDED,
    FAST_TOKENIZER,
    SOURCE_PIECES,
    TARGET_PIECES,
    TARGET_VOCABULARY,
    TOKENIZER_SETTINGS,
    VOCABULARY,
)
from hf_paretokd.models.files import load_tokenizer, save_tokenizer
from hf_paretokd.models.head import NEVER, is_marian, secure_pad_row
from hf_paretokd.utils.protobuf import fields

UNUSED = -1  # in place of an old id
PIECE, PIECE_TEXT, PIECE_TYPE, NORMAL = 1, 1, 3, 1  # of a SentencePiece model: numbers of fields, and an ordinary piece's type
SOURCE_ROWS = ("model.encoder.embed_tokens.weight", "model.shared.weight")  # one a source piece
SPECIAL_IDS = (  # of configurations; the last two are lists, others may be
    "pad_token_id",
    "eos_token_id",
    "bos_token_id",
    "decoder_start_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
)
TARGET_ROWS = ("model.decoder.embed_tokens.weight", "lm_head.weight")  # one a target piece


@dataclass(frozen=True)
class Kept:
    """The old ids of a smaller vocabulary, in the order of the new ones, and what the text uses beside them.

    Args:
        source, target: old ids, as many on either side, −1 for an entry that nothing uses; the same where there is one
            vocabulary.
        dropped: pieces that the text uses and that had to go, with how often it uses them, the most frequent first.
    """

    source: list[int]
    target: list[int]
    dropped: dict[str, int]


def piece_counts(tokenizer: Any, sources: Iterable[str], targets: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """How often a text uses the pieces of both sides, special tokens included."""
    found = []
    for side, lines in enumerate((list(sources), list(targets))):
        ids = Counter[int]()
        for line in tokenizer(**{("text", "text_target")[side]: lines})["input_ids"] if lines else ():
            ids.update(line)
        found.append(named(tokenizer, ids, side == 1))
    return found[0], found[1]


def named(tokenizer: Any, ids: Mapping[int, int], target: bool) -> Counter[str]:
    """Counts by piece of counts by id, on one side."""
    names = names_of(tokenizer, target)
    return Counter({names[number]: count for number, count in ids.items()})


def names_of(tokenizer: Any, target: bool) -> dict[int, str]:
    """The pieces of one side by id."""
    encoder = tokenizer.target_encoder if target and tokenizer.separate_vocabs else tokenizer.encoder
    return {number: piece for piece, number in encoder.items()}


def kept_pieces(
    tokenizer: Any, counts: tuple[Mapping[str, int], Mapping[str, int]], languages: Iterable[str], size: int | None = None
) -> Kept:
    """Which pieces stay: special tokens, bytes, the tags of some languages, all that the text uses, and single characters.

    Where that is more than `size`, the rarest pieces of the text go, but for single characters, by which SentencePiece writes
    what it has no piece for; where it is less, single characters that the text does not use are kept as far as there is room.

    Args:
        tokenizer: a Marian tokenizer.
        counts: see `piece_counts`.
        languages: whose tags stay.
        size: of the new vocabulary, each of two where the sides have their own; default: what is needed.

    Raises:
        ModelError: a SentencePiece model is none of unigrams, whose other pieces are made of those that would go.
        RecipeError: the size is below the special tokens, tags and characters that have to stay, or the text uses no piece.
    """
    for processor in (tokenizer.spm_source, tokenizer.spm_target):
        if not is_unigram(processor):
            raise ModelError(
                "the tokenizer's SentencePiece models are not of unigrams; the vocabulary of others cannot be trimmed"
            )
    tags = {f">>{language}<<" for language in languages}
    sides = (0, 1) if tokenizer.separate_vocabs else (0,)
    rows: list[list[int]] = []
    dropped: Counter[str] = Counter()
    for side in sides:
        used = Counter(counts[side]) if len(sides) > 1 else Counter(counts[0]) + Counter(counts[1])
        chosen, lost = chosen_pieces(names_of(tokenizer, side == 1), used, tags, size)
        rows.append(chosen)
        dropped.update(lost)
    longest = max(map(len, rows))
    rows = [levelled(chosen, names_of(tokenizer, side == 1), longest) for side, chosen in enumerate(rows)]
    return Kept(rows[0], rows[-1], dict(dropped.most_common()))


def chosen_pieces(
    names: Mapping[int, str], used: Mapping[str, int], tags: set[str], size: int | None
) -> tuple[list[int], dict[str, int]]:
    """Old ids that stay on one side, and the pieces of the text that go."""
    special = {number for number, piece in names.items() if is_special(piece) or piece in tags}
    pieces = {number: piece for number, piece in names.items() if number not in special}
    wanted = {number: used.get(piece, 0) for number, piece in pieces.items()}
    if not any(count for number, count in wanted.items() if pieces[number] != SPACE):
        raise RecipeError("the text uses none of the model's pieces; is it in the model's languages?")
    characters = {number for number, piece in pieces.items() if len(piece.removeprefix(SPACE)) <= 1}
    letters = set("".join(piece for number, piece in pieces.items() if wanted[number]))  # of pieces that may have to go, too
    needed = special | {number for number in characters if set(pieces[number]) <= letters}
    room = len(names) if size is None else size
    if len(needed) > room:
        raise RecipeError(
            f"shrink.vocab_size: {size} is below the {len(needed)} special tokens, tags and characters that have to stay"
        )
    by_use = sorted((number for number in pieces if wanted[number] and number not in needed), key=lambda each: -wanted[each])
    chosen = [*needed, *by_use[: room - len(needed)]]
    spare = sorted(characters - set(chosen))
    chosen += spare[: max(0, room - len(chosen))]
    lost = {pieces[number]: wanted[number] for number in by_use[room - len(needed) :]}
    return sorted(chosen, key=lambda number: (names[number] == "<pad>", number)), lost


def levelled(chosen: Sequence[int], names: Mapping[int, str], size: int) -> list[int]:
    """As many old ids as the other side has, so that `<pad>` has one id: more pieces, then entries that nothing uses (−1)."""
    spare = sorted(number for number, piece in names.items() if number not in set(chosen) and not TAG.fullmatch(piece))
    more = [*spare[: size - len(chosen)], *[UNUSED] * (size - len(chosen) - len(spare))]
    return [*chosen[:-1], *more, chosen[-1]]


def is_special(piece: str) -> bool:
    """Whether a piece is a control token or a byte."""
    return piece in ("</s>", "<unk>", "<pad>", "<s>") or (piece.startswith("<0x") and piece.endswith(">"))


def trim_model(model: PreTrainedModel, kept: Kept) -> PreTrainedModel:
    """A model with the rows of `kept` only, in evaluation mode; the given one is made to keep Marian's rule for `<pad>`.

    Raises:
        ModelError: the model is no Marian model, or its `<pad>` is not last.
    """
    if not is_marian(model):
        raise ModelError(f"a vocabulary can be trimmed for Marian models only, not for {model.config.model_type}")
    secure_pad_row(model)
    config = type(model.config).from_dict(model.config.to_dict())
    ids = {old: new for new, old in enumerate(kept.target)}
    config.vocab_size = len(kept.source)
    if config.decoder_vocab_size is not None:
        config.decoder_vocab_size = len(kept.target)
    move_ids(config, ids)
    trimmed = AutoModelForSeq2SeqLM.from_config(config)
    rows = {**dict.fromkeys(SOURCE_ROWS, kept.source), **dict.fromkeys(TARGET_ROWS, kept.target)}
    state = {name: taken(name, tensor, rows, kept.target) for name, tensor in model.state_dict().items()}
    trimmed.load_state_dict(state)
    if model.generation_config is not None and trimmed.generation_config is not None:
        trimmed.generation_config = type(model.generation_config).from_dict(model.generation_config.to_dict())
        move_ids(trimmed.generation_config, ids)
    return trimmed.eval()


def taken(name: str, tensor: Tensor, rows: Mapping[str, Sequence[int]], target: Sequence[int]) -> Tensor:
    """A parameter or buffer of the smaller model."""
    if name == "final_logits_bias":
        return picked(tensor[0], target, NEVER)[None]
    return picked(tensor, rows[name], 0.0) if name in rows else tensor


def picked(tensor: Tensor, ids: Sequence[int], otherwise: float) -> Tensor:
    """Rows of a tensor by old id, and a constant where there is none."""
    rows = torch.tensor(ids)
    found = tensor[rows.clamp(min=0)]
    found[rows == UNUSED] = otherwise
    return found


def move_ids(config: Any, ids: Mapping[int, int]) -> None:
    """Gives the special tokens of a configuration their new ids."""
    for name in SPECIAL_IDS:
        old = getattr(config, name, None)
        if isinstance(old, int):
            setattr(config, name, ids.get(old))
        elif isinstance(old, list):
            setattr(config, name, [ids[each] for each in old if each in ids])
    if words := getattr(config, "bad_words_ids", None):
        config.bad_words_ids = [[ids[each] for each in word] for word in words if all(each in ids for each in word)]


def trim_tokenizer(tokenizer: Any, kept: Kept, config: Any, folder: Path) -> PreTrainedTokenizerBase:
    """Writes a tokenizer of the kept pieces into `folder`, and loads it.

    Args:
        tokenizer: a Marian tokenizer.
        kept: which pieces stay.
        config: of the trimmed model.
        folder: where it goes.
    """
    save_tokenizer(tokenizer, folder, config)
    forget_ids(folder / TOKENIZER_SETTINGS)
    (folder / ADDED).unlink(missing_ok=True)
    sides = ((kept.source, SOURCE_PIECES, VOCABULARY), (kept.target, TARGET_PIECES, TARGET_VOCABULARY))
    for side, (ids, pieces, vocabulary) in enumerate(sides):
        names = names_of(tokenizer, side == 1)
        entries = [f"<unused{number}>" if old == UNUSED else names[old] for number, old in enumerate(ids)]
        if side == 0 or tokenizer.separate_vocabs:
            write_vocabulary(entries, folder / vocabulary)
        path = folder / pieces
        known = set(entries) if kept.dropped else None
        path.write_bytes(trimmed_pieces(path.read_bytes(), set(names.values()) - set(entries), known))
    (folder / FAST_TOKENIZER).unlink(missing_ok=True)
    trimmed = load_tokenizer(folder)
    write_tokenizer_json(trimmed, folder)
    return trimmed


def forget_ids(settings: Path) -> None:
    """Takes the old ids of special tokens out of a tokenizer's settings, which are those of its vocabulary."""
    kept = {key: value for key, value in json.loads(settings.read_text("utf-8")).items() if key != "added_tokens_decoder"}
    settings.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_vocabulary(pieces: Sequence[str], path: Path) -> None:
    """Writes pieces with their ids."""
    path.write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}, ensure_ascii=False), "utf-8")


def trimmed_pieces(serialized: bytes, dropped: set[str], known: set[str] | None) -> bytes:
    """A SentencePiece model without some of its ordinary pieces.

    Args:
        serialized: the model.
        dropped: those that go.
        known: those of the vocabulary, so that all others go, too, lest text be written by them now and become `<unk>`; None
            where all text is written as before, and what was `<unk>` stays so.
    """
    kept = []
    for number, content, whole in fields(serialized):
        if number == PIECE:
            piece = {inner: value for inner, value, _ in fields(content)}
            text = bytes(piece[PIECE_TEXT]).decode()
            ordinary = piece.get(PIECE_TYPE, NORMAL) == NORMAL
            if ordinary and (text in dropped or (known is not None and text not in known)):
                continue
        kept.append(whole)
    return b"".join(kept)
