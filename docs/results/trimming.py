"""What it takes to cut the vocabulary of a full-size Marian model (74 million random parameters) to 16,000 entries.

    python docs/results/trimming.py FOLDER_WITH_FR_EN_TEXT

The vocabulary is that of two SentencePiece models trained on the two sides, as in opus-mt repositories; the model is random:
its output is not worth reading, but has to come out the same. Prints seconds, the peak of memory and the proof on 1,000 lines.
"""

import gzip
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel

from hf_paretokd.evaluation.proof import prove_trimming
from hf_paretokd.models.files import load_checkpoint, save_model
from hf_paretokd.models.trimming import kept_pieces, piece_counts, trim_model, trim_tokenizer

ENTRIES, SMALLER, LINES = 58_000, 16_000, 1000


def repository(folder: Path, text: Path) -> tuple[list[str], list[str]]:
    """Writes the model; returns both sides of the text."""
    sides, pieces = [], []
    for language, name in (("fr", "source"), ("en", "target")):
        with gzip.open(text / f"train.{language}.gz", "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
        options = {"hard_vocab_limit": False, "minloglevel": 2, "unk_id": 0, "eos_id": 1, "bos_id": -1, "num_threads": 2}
        prefix = str(folder / name)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_prefix=prefix, vocab_size=32_000, **options
        )
        Path(f"{prefix}.model").rename(folder / f"{name}.spm")
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
        pieces += [model.id_to_piece(number) for number in range(2, model.get_piece_size())]
        sides.append(lines)
    vocabulary = ["</s>", "<unk>", *dict.fromkeys(pieces)]
    vocabulary += [f"▁filler{number}" for number in range(ENTRIES - 1 - len(vocabulary))] + ["<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(vocabulary)}))
    settings = {"tokenizer_class": "MarianTokenizer", "source_lang": "fra", "target_lang": "eng", "model_max_length": 512}
    words = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>", "separate_vocabs": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | words))
    pad = len(vocabulary) - 1
    ids = {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0, "forced_eos_token_id": 0}
    shape = {"d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048}
    heads = {"encoder_attention_heads": 8, "decoder_attention_heads": 8, "max_position_embeddings": 512}
    torch.manual_seed(1)
    model = MarianMTModel(MarianConfig(vocab_size=len(vocabulary), scale_embedding=True, **ids, **shape, **heads))
    with torch.no_grad():
        model.get_encoder().embed_tokens.weight.normal_(std=512**-0.5)[pad] = 0
        model.final_logits_bias[0, 0] = 1.0
    model.save_pretrained(folder)
    return sides[0], sides[1]


def main() -> None:
    """Measures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources, targets = repository(folder, Path(sys.argv[1]))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.monotonic()
        model, tokenizer = load_checkpoint(folder)
        kept = kept_pieces(tokenizer, piece_counts(tokenizer, sources[:50_000], targets[:50_000]), (), SMALLER)
        small = trim_model(model, kept)
        (folder / "small").mkdir()
        words = trim_tokenizer(tokenizer, kept, small.config, folder / "small")
        save_model(small, words, folder / "small")
        seconds = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"{len(tokenizer):,} to {len(words):,} entries, {model.num_parameters():,} to {small.num_parameters():,} parameters"
        )
        print(f"{seconds:.1f} s, peak of memory {peak / 1e6:.2f} GB ({before / 1e6:.2f} GB before)")
        print(f"pieces of the text that went: {len(kept.dropped):,}, used {sum(kept.dropped.values()):,} times")
        start = time.monotonic()
        proof = prove_trimming((model.eval(), tokenizer), (small, words), kept, sources[:LINES])
        print(f"proof in {time.monotonic() - start:.0f} s: {proof.equal} of {proof.sentences} equal,")
        print(f"{proof.resegmented} with a source piece that went, {proof.rechosen} with a target piece that went,")
        print(f"{len(proof.ties)} ties, {len(proof.broken)} otherwise")


if __name__ == "__main__":
    main()
