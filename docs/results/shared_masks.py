"""What common dropout masks do to the distillation loss: KL(teacher ‖ student) a token, in training mode, in both forms.

usage: python docs/results/shared_masks.py FOLDER   (for the embedded corpus and two short trainings, about three minutes)
"""

import sys
from pathlib import Path

import torch

from hf_paretokd import (
    AllInOneConfig,
    AllInOneTrainer,
    DataConfig,
    Depth,
    ModelConfig,
    build_model,
    encode_split,
    load_text,
    train_tokenizer,
)
from hf_paretokd.data.demo_corpus import write_demo_corpus

UPDATES, BATCHES = 300, 60
folder = Path(sys.argv[1])
write_demo_corpus(folder / "text", {"fr": 4000}, {"validation": 200, "test": 200})
data = DataConfig(pairs=["fr-en"], data_dir=str(folder / "text"))
texts = {split: load_text(data, split) for split in ("train", "validation")}
tokenizer = train_tokenizer(texts["train"], folder / "tokenizer", vocab_size=2000, max_length=96)
encoded = {split: encode_split(text, tokenizer) for split, text in texts.items()}
shape = ModelConfig(
    encoder_layers=4,
    decoder_layers=4,
    d_model=64,
    encoder_ffn_dim=256,
    decoder_ffn_dim=256,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    dropout=0.2,
    max_position_embeddings=96,
)
for views in ("shared", "independent"):
    fields = {"views": views, "max_steps": UPDATES, "eval_steps": UPDATES, "learning_rate": 2e-3, "warmup_steps": 30}
    config = AllInOneConfig(output_dir=str(folder / views), max_tokens=1024, kd_weight=5.5, bf16=False, **fields)
    trainer = AllInOneTrainer(
        build_model(shape, tokenizer, seed=1), config, encoded["train"], encoded["validation"], processing_class=tokenizer
    )
    trainer.train()
    trainer.model.train()
    divergences = {}
    for depth in (Depth(4, 4), Depth(4, 3)):
        total, count = 0.0, 0.0
        for number, sample in zip(range(BATCHES), trainer.get_train_dataloader(), strict=False):
            with torch.no_grad():
                logs = trainer.model(sample["batches"], [number], students=[depth], mutual_weight=0.0)["logs"]
            total, count = total + logs["loss_kd"][0].item(), count + logs["loss_kd"][1].item()
        divergences[str(depth)] = round(total / count, 4)
    print(views, divergences)
