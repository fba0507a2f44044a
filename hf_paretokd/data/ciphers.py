"""Source text in a cipher (CipherDAug, Kambhatla et al., 2022): ROT-k over the letters of the training text, sorted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from hf_paretokd.data.encoding import Pairs
from hf_paretokd.data.pairs import like_a_tag
from hf_paretokd.data.pieces import BatchEncoder, cut
from hf_paretokd.data.sampling import MicroBatch, PairDataset
from hf_paretokd.errors import TokenizerError

CIPHER = "cipher"  # of a tokenizer's settings; and before the names of tensors that are in cipher
CIPHERED = f"{CIPHER}_"


@dataclass(frozen=True)
class Cipher:
    """ROT-k: each letter becomes the k-th after it among `letters`, the first following the last; all else stays.

    Args:
        letters: that the source text has, sorted by code point.
        keys: k of each cipher.

    Raises:
        TokenizerError: the keys do not turn every letter into another, each in its own way.
    """

    letters: str
    keys: tuple[int, ...]

    def __post_init__(self) -> None:
        check_keys(self.keys)
        count = len(self.letters)
        if count < 2:
            raise TokenizerError(
                f"tokenizer.cipher_keys: a cipher needs an alphabet, and the source text has {count or 'no'} letters"
            )
        turns = [key % count for key in self.keys]
        if 0 in turns or len(set(turns)) < len(turns):
            raise TokenizerError(
                f"tokenizer.cipher_keys: {', '.join(map(str, self.keys))} are not different ciphers of {count} letters"
            )

    @classmethod
    def of(cls, sources: Iterable[str], keys: Sequence[int]) -> "Cipher":
        """That of a text's letters."""
        characters: set[str] = set()
        for source in sources:
            characters.update(source)
        return cls("".join(sorted(filter(str.isalpha, characters))), tuple(keys))

    @classmethod
    def known_to(cls, tokenizer: PreTrainedTokenizerBase | None) -> "Cipher | None":
        """The one that a tokenizer was made for, if any."""
        found = tokenizer.init_kwargs.get(CIPHER) if tokenizer is not None else None
        return cls(found["letters"], tuple(found["keys"])) if found else None

    @cached_property
    def tables(self) -> Mapping[int, dict[int, str]]:
        """What becomes of each letter, by key."""
        double, count = self.letters * 2, len(self.letters)
        return {
            key: {ord(letter): double[place + key % count] for place, letter in enumerate(self.letters)} for key in self.keys
        }

    def enciphered(self, text: str, key: int) -> str:
        """A text under one of the keys."""
        return text.translate(self.tables[key])

    def all_forms(self, sources: Iterable[str]) -> Iterator[str]:
        """Texts as they are, each followed by itself under every key."""
        for source in sources:
            yield source
            for key in self.keys:
                yield self.enciphered(source, key)

    def settings(self) -> dict[str, Any]:
        """What a tokenizer is saved with."""
        return asdict(self)


def check_keys(keys: Sequence[int]) -> None:
    """Raises a TokenizerError unless keys are different whole numbers from 1 on."""
    whole = all(isinstance(key, int) and not isinstance(key, bool) and key > 0 for key in keys)
    if not whole or len(set(keys)) < len(keys):
        raise TokenizerError(f"tokenizer.cipher_keys: {list(keys)} are not different whole numbers from 1 on")


class CipheredDataset(PairDataset):
    """Micro-batches with their sources also in cipher, under the keys in turn.

    The text of a source is that of its ids, and is encoded as SentencePiece encodes any text. Tags stay before it. What is
    longer in cipher than the model can read is cut.

    Args:
        pairs: the token ids.
        pad_id: of the tokenizer.
        tokenizer: a `MarianTokenizer` that knows `cipher`.
        cipher: which cipher.
        longest: source in tokens.
    """

    def __init__(self, pairs: Pairs, pad_id: int, tokenizer: PreTrainedTokenizerBase, cipher: Cipher, longest: int) -> None:
        super().__init__(pairs, pad_id)
        self.cipher, self.longest = cipher, longest
        self.encoder = BatchEncoder(tokenizer)
        self.tags = {entry for token, entry in tokenizer.get_vocab().items() if like_a_tag(token)}

    def fetch(self, batch: MicroBatch) -> dict[str, Any]:
        """Also `cipher_input_ids` and `cipher_attention_mask` [rows, source]."""
        found = super().fetch(batch)
        ids, lengths = found["input_ids"].tolist(), found["attention_mask"].sum(1).tolist()
        sources = [row[:length] for row, length in zip(ids, lengths, strict=True)]
        key = self.cipher.keys[batch.number % len(self.cipher.keys)]
        rows = [torch.tensor(row) for row in self.in_cipher(sources, key)]
        for name, values, filling in (("input_ids", rows, self.pad_id), ("attention_mask", map(torch.ones_like, rows), 0)):
            found[CIPHERED + name] = pad_sequence(list(values), batch_first=True, padding_value=filling)
        return found

    def in_cipher(self, sources: Sequence[Sequence[int]], key: int) -> list[list[int]]:
        """Token ids of sources under a key."""
        tags = [[entry for entry in row[:1] if entry in self.tags] for row in sources]
        words = [list(row[len(tag) :]) for row, tag in zip(sources, tags, strict=True)]
        texts = [self.cipher.enciphered(text, key) for text in self.encoder.texts(words)]
        encoded = self.encoder.sources(texts).to_pylist()
        return [cut([*tag, *row], self.longest) for tag, row in zip(tags, encoded, strict=True)]
