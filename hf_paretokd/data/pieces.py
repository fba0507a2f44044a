"""SentencePiece models: token ids of many texts at once, equal to what `MarianTokenizer` gives one by one; and their kind."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import MarianTokenizer, PreTrainedTokenizerBase

from hf_paretokd.utils.protobuf import fields

TRAINER, MODEL_TYPE, UNIGRAM = 2, 3, 1  # numbers of fields of a model, and a value
FEW = 4  # texts that are encoded faster one by one
SPACE = "\u2581"  # how SentencePiece writes the space before a word
NORMALIZER, CHARACTERS = 3, 2  # numbers of fields: of a model, and of its rule for characters


class BatchEncoder:
    """Ids of sources and targets by a `MarianTokenizer`'s two SentencePiece models.

    Texts must be text to the tokenizer (`takes_for_text`): it splits them at special tokens and tags, this does not.

    Args:
        tokenizer: the tokenizer.
        before: what stands before every source: a tag with its space, or nothing.
        threads: of SentencePiece.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, before: str = "", threads: int = 1) -> None:
        known: Any = tokenizer
        tags, self.space = known.remove_language_code(before)  # what is left of a tag and its space is text to SentencePiece
        target = known.target_encoder if known.separate_vocabs else known.encoder
        self.sides = [(known.spm_source, table(known.spm_source, known.encoder, known.unk_token))]
        self.sides.append((known.spm_target, table(known.spm_target, target, known.unk_token)))
        self.prefix = [known.encoder.get(tag, known.unk_token_id) for tag in tags]
        self.special, self.names = set(known.all_special_ids), known.decoder
        self.joining = known.spm_target if known.separate_vocabs else known.spm_source  # as it decodes
        self.ends = [known.eos_token_id, target[known.eos_token]]
        self.threads = threads

    @staticmethod
    def suits(tokenizer: PreTrainedTokenizerBase) -> bool:
        """Whether a tokenizer does nothing that this does not: tokens that were added, sampling of pieces."""
        known: Any = tokenizer
        if type(tokenizer) is not MarianTokenizer or known.sp_model_kwargs:
            return False
        return set(known.added_tokens_encoder) <= set(known.all_special_tokens)

    def sources(self, texts: Sequence[str]) -> pa.ListArray:
        """`input_ids` of texts: the tag, pieces and `</s>`."""
        return self._encoded(0, [self.space + text for text in texts] if self.space else texts, self.prefix)

    def targets(self, texts: Sequence[str]) -> pa.ListArray:
        """`labels` of texts: pieces and `</s>`."""
        return self._encoded(1, texts, [])

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """What the tokenizer makes of ids without its special tokens."""
        pieces = [[self.names[entry] for entry in row if entry not in self.special] for row in rows]
        found = several(partial(self.joining.decode, num_threads=self.threads), self.joining.decode, pieces)
        return [text.replace(SPACE, " ").strip() for text in found]

    def _encoded(self, side: int, texts: Sequence[str], prefix: Sequence[int]) -> pa.ListArray:
        processor, known = self.sides[side]
        encode = partial(processor.encode, out_type=int)
        pieces = several(partial(encode, num_threads=self.threads), encode, list(texts))
        lengths = np.fromiter(map(len, pieces), np.int32, len(pieces)) + len(prefix) + 1
        offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
        ids = np.empty(offsets[-1], np.int32)
        plain = np.ones(len(ids), bool)
        for place, number in enumerate(prefix):
            ids[offsets[:-1] + place], plain[offsets[:-1] + place] = number, False
        ids[offsets[1:] - 1], plain[offsets[1:] - 1] = self.ends[side], False
        ids[plain] = known[np.fromiter(chain.from_iterable(pieces), np.int32, int(plain.sum()))]
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))


def cut(row: list[int], longest: int) -> list[int]:
    """A row of at most so many ids, with its end."""
    return row if len(row) <= longest else [*row[: longest - 1], row[-1]]


def several(together: Callable[[list], list], alone: Callable[[Any], Any], values: list) -> list:
    """What SentencePiece makes of some values; of a few one by one, because its batches begin threads each time."""
    return together(values) if len(values) > FEW else [alone(each) for each in values]


def table(processor: Any, vocabulary: Mapping[str, int], unknown: str) -> NDArray[np.int32]:
    """The id that the vocabulary gives to each piece of a SentencePiece model."""
    pieces = map(processor.id_to_piece, range(processor.get_piece_size()))
    return np.array([vocabulary.get(piece, vocabulary[unknown]) for piece in pieces], np.int32)


def is_unigram(processor: Any) -> bool:
    """Whether a model takes the most probable pieces."""
    return part(processor.serialized_model_proto(), TRAINER, MODEL_TYPE, UNIGRAM) == UNIGRAM


def character_rule(processor: Any) -> bytes:
    """By what a model replaces characters, as it keeps it; empty if it replaces none."""
    return part(processor.serialized_model_proto(), NORMALIZER, CHARACTERS, b"")


def part(model: bytes, outer: int, inner: int, otherwise: Any) -> Any:
    """A field of a field of a model."""
    message = next((content for number, content, _ in fields(model) if number == outer), b"")
    return next((content for number, content, _ in fields(message) if number == inner), otherwise)
