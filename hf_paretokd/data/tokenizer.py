"""Marian tokenizers from raw text: SentencePiece models, one shared vocabulary, target tags, `<pad>` last."""

import io
import json
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import sentencepiece
from transformers import MarianTokenizer

from hf_paretokd.data.ciphers import CIPHER, Cipher
from hf_paretokd.data.corpus import ParallelText, StreamedText, by_pair
from hf_paretokd.data.pairs import LanguagePair, source_tags
from hf_paretokd.errors import TokenizerError
from hf_paretokd.layout import SOURCE_PIECES, TARGET_PIECES, VOCABULARY

EOS, UNK, PAD = "</s>", "<unk>", "<pad>"
MAX_SENTENCES = 2_000_000


@dataclass
class TokenizerConfig:
    """How the vocabulary is built.

    Args:
        from_pretrained: folder or Hub id of an existing tokenizer; everything else is ignored then.
        vocab_size: entries in all, tags and special tokens included.
        joint: one SentencePiece model for both sides; false trains one for each side over one shared vocabulary.
        byte_fallback: spell characters outside the vocabulary as bytes and keep the text as it is, so that every text
            comes back exactly but for white space; false normalises with NMT-NFKC and maps rare characters to `<unk>`.
        character_coverage: share of the characters in the training text that get an entry of their own.
        cipher_keys: k of each cipher ROT-k in which the vocabulary knows the source text, too, for `consistency: cipher`;
            1 and 2 are usual.
    """

    from_pretrained: str | None = None
    vocab_size: int = 8000
    joint: bool = True
    byte_fallback: bool = True
    character_coverage: float = 0.9998
    cipher_keys: list[int] = field(default_factory=list)


def train_tokenizer(
    texts: Mapping[LanguagePair, ParallelText] | Mapping[LanguagePair, StreamedText] | ParallelText,
    output_dir: str | Path,
    vocab_size: int = 8000,
    target_tags: str = "needed",
    joint: bool = True,
    byte_fallback: bool = True,
    character_coverage: float = 0.9998,
    max_length: int = 512,
    cipher_keys: Sequence[int] = (),
) -> MarianTokenizer:
    """Builds a `MarianTokenizer` from raw text and saves it.

    Args:
        texts: the training text of all pairs, from `load_text` or `stream_text`, or of one, from `text_of`.
        output_dir: folder for `source.spm`, `target.spm`, `vocab.json` and the tokenizer's configuration.
        vocab_size: entries in all; the result may be smaller if the text does not fill it.
        target_tags: `needed` gives target languages a tag `>>xx<<` if there are several, `always` in any case.
        joint: one SentencePiece model for both sides, see `TokenizerConfig`.
        byte_fallback: unknown characters are spelled as bytes.
        character_coverage: the share of characters that become pieces.
        max_length: longest input in tokens; longer input is cut by `truncation=True`.
        cipher_keys: of the ciphers that the source text is read in, too, see `TokenizerConfig`.

    Returns:
        The tokenizer: `</s>` is 0, `<unk>` is 1, tags come last but for `<pad>`, which has the last id.

    Raises:
        TokenizerError: `vocab_size` does not fit the text, or it cannot be put in these ciphers.
    """
    if cipher_keys and not joint:
        raise TokenizerError("tokenizer.cipher_keys: ciphers want one SentencePiece model for both sides; leave joint on")
    folder = Path(output_dir)
    text: Mapping[LanguagePair, ParallelText | StreamedText] = by_pair(texts) if isinstance(texts, ParallelText) else texts
    folder.mkdir(parents=True, exist_ok=True)
    cipher = Cipher.of(source_text(text), cipher_keys) if cipher_keys else None
    sources = cipher.all_forms(source_text(text)) if cipher else source_text(text)
    targets = chain.from_iterable(each.targets for each in text.values())
    tags = sorted({tag.strip() for tag in source_tags(text, target_tags).values() if tag})
    budget = vocab_size - len(tags) - 2  # </s> and <pad> are ours, SentencePiece counts <unk> itself
    options: dict[str, Any] = {"byte_fallback": byte_fallback, "character_coverage": character_coverage}
    if joint:
        models = [train_sentencepiece(chain(sources, targets), budget, **options)] * 2
    else:
        models = [train_sentencepiece(side, budget // 2, **options) for side in (sources, targets)]
    pieces = dict.fromkeys(chain.from_iterable(map(model_pieces, models)))
    vocabulary = [EOS, UNK, *pieces, *tags, PAD]
    for name, model in zip((SOURCE_PIECES, TARGET_PIECES), models, strict=True):
        (folder / name).write_bytes(model)
    (folder / VOCABULARY).write_text(
        json.dumps({piece: index for index, piece in enumerate(vocabulary)}, ensure_ascii=False, indent=1), "utf-8"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # recommends sacremoses, which MarianTokenizer never calls
        tokenizer = MarianTokenizer(
            str(folder / SOURCE_PIECES),
            str(folder / TARGET_PIECES),
            str(folder / VOCABULARY),
            model_max_length=max_length,
            **({CIPHER: cipher.settings()} if cipher else {}),
        )
    tokenizer.save_pretrained(folder)
    return tokenizer


def source_text(texts: Mapping[LanguagePair, ParallelText | StreamedText]) -> Iterable[str]:
    """The source sides of all pairs, after each other."""
    return chain.from_iterable(each.sources for each in texts.values())


def train_sentencepiece(sentences: Iterable[str], vocab_size: int, byte_fallback: bool, character_coverage: float) -> bytes:
    """A unigram SentencePiece model (serialised) with `<unk>` as its only special piece.

    White space of any kind is one space inside a text and nothing at its ends. The rule is part of the model, so that all that
    run it agree.

    Raises:
        TokenizerError: the text needs more entries than `vocab_size`, or there is none.
    """
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        spaces = Path(folder) / "spaces.tsv"
        others = (each for each in map(chr, range(sys.maxunicode)) if each.isspace() and each != " ")
        spaces.write_text("".join(f"{ord(each):X}\t20\n" for each in others))
        rule: dict[str, Any] = {"normalization_rule_name": "nmt_nfkc"}
        if byte_fallback:
            rule = {"normalization_rule_tsv": str(spaces)}
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences),
                model_writer=model,
                model_type="unigram",
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                byte_fallback=byte_fallback,
                character_coverage=character_coverage,
                remove_extra_whitespaces=True,
                input_sentence_size=MAX_SENTENCES,
                shuffle_input_sentence=True,
                max_sentence_length=16384,
                num_threads=4,
                minloglevel=2,
                **rule,
            )
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].split("] ")[-1]
            raise TokenizerError(
                f"tokenizer.vocab_size: SentencePiece cannot build {vocab_size} pieces from this text ({reason}); "
                "choose another vocab_size, a lower character_coverage, or give more text"
            ) from error
    return model.getvalue()


def model_pieces(model: bytes) -> list[str]:
    """All pieces of a serialised SentencePiece model but `<unk>`."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(index) for index in range(processor.get_piece_size()) if index != processor.unk_id()]
