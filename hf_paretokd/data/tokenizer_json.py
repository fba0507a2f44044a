"""`tokenizer.json` of a `MarianTokenizer`, for runtimes without SentencePiece: transformers.js, Rust, mobile.

Ids are those of the original but for segmentations of equal score and for a few kinds of odd text: tags in the middle of a text
or unknown ones, and, where characters are normalised (no `byte_fallback`), marks that combine with a replaced character.
"""

import sys
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import MarianTokenizer, PreTrainedTokenizerBase

from hf_paretokd.data.pairs import TAG
from hf_paretokd.data.pieces import SPACE, character_rule, is_unigram
from hf_paretokd.layout import FAST_TOKENIZER

HIDDEN = "\uf8ff"  # before entries that no text is to be written by; for private use, so that no text has it
SPACES = "".join(each for each in map(chr, range(sys.maxunicode)) if each.isspace())
BYTE = "0x(?=[0-9A-F]{2}>)"  # in text that looks like the name of a byte's entry


def write_tokenizer_json(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes the file, if the tokenizer can be had in this form."""
    if can_be_had(tokenizer):
        tokenizer_json(tokenizer).save(str(folder / FAST_TOKENIZER))


def can_be_had(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer is Marian's with one vocabulary that holds all that its unigram model for sources may choose."""
    marian: Any = tokenizer
    if type(tokenizer) is not MarianTokenizer or marian.separate_vocabs or marian.sp_model_kwargs:
        return False
    processor, known = marian.spm_source, marian.encoder
    if not is_unigram(processor) or sorted(known.values()) != list(range(len(known))):
        return False
    return all(processor.id_to_piece(number) in known for number in ordinary(processor))


def ordinary(processor: Any) -> list[int]:
    """The pieces that text may be written by, bytes aside."""
    others = (processor.is_unknown, processor.is_control, processor.is_unused, processor.is_byte)
    return [number for number in range(processor.get_piece_size()) if not any(each(number) for each in others)]


def tokenizer_json(tokenizer: Any) -> Tokenizer:
    """The same tokenizer by the library `tokenizers`: pieces and scores of the source's SentencePiece model."""
    processor, known = tokenizer.spm_source, tokenizer.encoder
    scores = {processor.id_to_piece(number): processor.get_score(number) for number in ordinary(processor)}
    special = [tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token]
    tags = [piece for piece in known if TAG.fullmatch(piece)]
    numbers = range(processor.get_piece_size())
    plain = {*special, *tags, *(processor.id_to_piece(number) for number in numbers if processor.is_byte(number))}
    entries = [
        (piece if piece in scores or piece in plain else HIDDEN + piece, scores.get(piece, 0.0))
        for piece in sorted(known, key=known.__getitem__)
    ]
    bytes_known = any(map(processor.is_byte, numbers))
    found = Tokenizer(models.Unigram(entries, unk_id=tokenizer.unk_token_id, byte_fallback=bytes_known))
    found.normalizer = normalizers.Sequence(normalisation(processor))
    words = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never", split=True)
    names = pre_tokenizers.Split(Regex(f"(?<=<){BYTE}"), "merged_with_next")
    found.pre_tokenizer = pre_tokenizers.Sequence([words, names] if bytes_known else [words])
    end = [(tokenizer.eos_token, tokenizer.eos_token_id)]
    found.post_processor = processors.TemplateProcessing(single=f"$A {tokenizer.eos_token}", special_tokens=end)
    shown = [decoders.Replace(HIDDEN, ""), decoders.Replace(SPACE, " ")]
    found.decoder = decoders.Sequence([*shown, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    found.add_special_tokens([AddedToken(each, normalized=False, special=True) for each in special])
    found.add_tokens([AddedToken(each, normalized=False) for each in tags])
    return found


def normalisation(processor: Any) -> list[Any]:
    """What SentencePiece does to text before it looks for pieces: characters, white space, the space before the first word."""
    if replaces_spaces_only(processor):
        characters, spaces = [], Regex(f"[{SPACES}]+")
    else:
        characters = [normalizers.Precompiled(character_rule(processor))] if character_rule(processor) else []
        spaces = Regex(" +")
    ends = [normalizers.Replace(spaces, " "), normalizers.Replace(Regex("^ | $"), "")]
    return [*characters, *ends, normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]


def replaces_spaces_only(processor: Any) -> bool:
    """Whether any white space is a space to a SentencePiece model, and every other character is itself."""
    others = "".join(each for each in map(chr, range(0x10000)) if not (each.isspace() or "\ud800" <= each <= "\udfff"))
    return not any(map(processor.normalize, SPACES)) and processor.normalize(others) == SPACE + others
