"""Small random models in the form of opus-mt repositories: two SentencePiece models, one vocabulary or two, old fields."""

import json
from pathlib import Path

import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel

SPECIAL = ("</s>", "<unk>")


def train_pieces(lines, path: Path, size: int) -> list[str]:
    """A unigram model as those repositories have it; its pieces in their order."""
    options = {"hard_vocab_limit": False, "minloglevel": 2, "bos_id": -1, "eos_id": 1, "unk_id": 0, "num_threads": 1}
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=file, vocab_size=size, **options)
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(number) for number in range(model.get_piece_size())]


def opus_like(folder: Path, sources, targets, tags=(), separate: bool = False, pickled: bool = False) -> Path:
    """Writes a repository; its sides have as many entries where they have their own."""
    folder.mkdir(parents=True)
    ours, theirs = (
        [piece for piece in train_pieces(lines, folder / f"{side}.spm", size) if piece not in SPECIAL]
        for side, lines, size in (("source", sources, 400), ("target", targets, 360))
    )
    if separate:
        size = min(len(ours), len(theirs))
        ours, theirs = (sorted(pieces, key=lambda piece: len(piece) > 1) for pieces in (ours, theirs))  # all characters
        sides = [[*SPECIAL, *pieces[:size], "<pad>"] for pieces in (ours, theirs)]
        (folder / "target_vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(sides[1])}))
    else:
        sides = [[*SPECIAL, *dict.fromkeys(ours + theirs), *tags, "<pad>"]] * 2
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(sides[0])}))
    named = {"tokenizer_class": "MarianTokenizer", "source_lang": "eng", "target_lang": "fra", "separate_vocabs": separate}
    words = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**named, **words, "model_max_length": 64}))
    size, pad = len(sides[0]), len(sides[0]) - 1
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
        **({"decoder_vocab_size": size, "share_encoder_decoder_embeddings": False} if separate else {}),
    )
    torch.manual_seed(0)
    model = MarianMTModel(config)
    with torch.no_grad():
        for table in {model.get_encoder().embed_tokens, model.get_decoder().embed_tokens}:
            table.weight.normal_(std=0.3)
            table.weight[pad] = 0
        model.final_logits_bias.normal_(std=0.5)
    model.generation_config.bad_words_ids = [[pad]]
    model.save_pretrained(folder)
    if pickled:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder
