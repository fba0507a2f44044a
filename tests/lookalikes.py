"""Small random models in the form of published repositories: opus-mt with its old fields, and other families."""

import json
from pathlib import Path

import sentencepiece
import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)
from transformers.models.mbart import tokenization_mbart as mbart
from transformers.models.mbart50 import tokenization_mbart50 as mbart50
from transformers.models.nllb import tokenization_nllb as nllb

SPECIAL = ("</s>", "<unk>")


def train_pieces(lines, path: Path, size: int) -> list[str]:
    """A unigram model as those repositories have it; its pieces in their order."""
    options = {"hard_vocab_limit": False, "minloglevel": 2, "bos_id": -1, "eos_id": 1, "unk_id": 0, "num_threads": 1}
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=file, vocab_size=size, **options)
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(number) for number in range(model.get_piece_size())]


def opus_like(folder: Path, sources, targets, tags=(), separate: bool = False, pickled: bool = False, more=0) -> Path:
    """Writes a repository; its sides have as many entries where they have their own, or the source some more."""
    folder.mkdir(parents=True)
    ours, theirs = (
        [piece for piece in train_pieces(lines, folder / f"{side}.spm", size) if piece not in SPECIAL]
        for side, lines, size in (("source", sources, 400), ("target", targets, 360))
    )
    if separate:
        size = min(len(ours) - more, len(theirs))
        ours, theirs = (sorted(pieces, key=lambda piece: len(piece) > 1) for pieces in (ours, theirs))  # all characters
        sides = [[*SPECIAL, *ours[: size + more], "<pad>"], [*SPECIAL, *theirs[:size], "<pad>"]]
        (folder / "target_vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(sides[1])}))
    else:
        sides = [[*SPECIAL, *dict.fromkeys(ours + theirs), *tags, "<pad>"]] * 2
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(sides[0])}))
    named = {"tokenizer_class": "MarianTokenizer", "source_lang": "eng", "target_lang": "fra", "separate_vocabs": separate}
    words = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**named, **words, "model_max_length": 64}))
    size, pad = len(sides[0]), len(sides[1]) - 1
    config = MarianConfig(
        vocab_size=size,
        d_model=32,
        encoder_layers=3,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        activation_function="swish",
        scale_embedding=True,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        bos_token_id=0,
        forced_eos_token_id=0,
        **({"decoder_vocab_size": pad + 1, "share_encoder_decoder_embeddings": False} if separate else {}),
    )
    torch.manual_seed(0)
    model = MarianMTModel(config)
    with torch.no_grad():
        for table in {model.get_encoder().embed_tokens, model.get_decoder().embed_tokens}:
            table.weight.normal_(std=0.3)
            table.weight[-1] = 0
        model.final_logits_bias.normal_(std=0.5)
    model.generation_config.bad_words_ids = [[pad]]
    model.save_pretrained(folder)
    if pickled:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


# ---- families that are told languages in other ways ----------------------------------------------------------------------

LAYERS = {"d_model": 32, "encoder_layers": 3, "decoder_layers": 3, "max_position_embeddings": 64, "scale_embedding": True}
LAYERS |= {
    f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in (("attention_heads", 4), ("ffn_dim", 48))
}
FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")


def seeded(kind, config):
    """A model with random weights that says something."""
    torch.manual_seed(0)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model


def scored_pieces(lines, folder: Path, **options) -> list[tuple[str, float]]:
    """Pieces of a unigram model of some text, written as `sentencepiece.bpe.model`, but for its special ones."""
    path = folder / "sentencepiece.bpe.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            vocab_size=400,
            hard_vocab_limit=False,
            minloglevel=2,
            num_threads=1,
            **{"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3, **options},
        )
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pieces = [(model.id_to_piece(number), model.get_score(number)) for number in range(model.get_piece_size())]
    return [(piece, score) for piece, score in pieces if piece not in FAIRSEQ]


def family_like(kind: str, folder: Path, lines) -> Path:
    """Writes a small random repository of `m2m`, `nllb`, `mbart`, `mbart50` or `t5`, as those that are published look."""
    folder.mkdir(parents=True)
    pieces = scored_pieces(lines, folder)
    vocabulary = [*((piece, 0.0) for piece in FAIRSEQ), *pieces]
    if kind == "m2m":
        (folder / "vocab.json").write_text(json.dumps({piece: number for number, (piece, _) in enumerate(vocabulary)}))
        tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
        entries = len(vocabulary) + len(tokenizer.lang_code_to_id) + tokenizer.num_madeup_words
        model = seeded(M2M100ForConditionalGeneration, M2M100Config(vocab_size=entries, decoder_start_token_id=2, **LAYERS))
    elif kind == "nllb":
        known = [*(piece for piece, _ in vocabulary), *nllb.FAIRSEQ_LANGUAGE_CODES, "<mask>"]
        tokenizer = NllbTokenizer(vocab={piece: number for number, piece in enumerate(known)}, merges=[])
        config = M2M100Config(vocab_size=len(tokenizer), decoder_start_token_id=2, **LAYERS)
        model = seeded(M2M100ForConditionalGeneration, config)
    elif kind in ("mbart", "mbart50"):
        made, codes = (MBartTokenizer, mbart) if kind == "mbart" else (MBart50Tokenizer, mbart50)
        known = [*vocabulary, *((code, 0.0) for code in codes.FAIRSEQ_LANGUAGE_CODES), ("<mask>", 0.0)]
        tokenizer = made(vocab=known)
        published = {"normalize_before": True, "normalize_embedding": True, "forced_eos_token_id": 2}
        config = MBartConfig(vocab_size=len(tokenizer), decoder_start_token_id=2, **published, **LAYERS)
        model = seeded(MBartForConditionalGeneration, config)
    else:
        tokenizer = T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces], extra_ids=10)
        words = {"translation_fr_to_en": {"prefix": "translate French to English: "}}
        shape = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, "decoder_start_token_id": 0}
        config = T5Config(vocab_size=len(tokenizer), task_specific_params=words, **shape)
        model = seeded(T5ForConditionalGeneration, config)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder
