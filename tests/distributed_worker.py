"""Trains a few updates in however many processes it was started with, and writes what came out."""

import json
import sys
from pathlib import Path

import datasets
import torch
from safetensors.torch import save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_paretokd import AllInOneConfig, AllInOneTrainer

MICRO_BATCHES = 4


def main(folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "model")
    config = AllInOneConfig(
        output_dir=str(folder / name),
        max_steps=6,
        max_tokens=300,
        warmup_steps=2,
        learning_rate=2e-3,
        eval_steps=2,
        logging_steps=1,
        mutual_start=0.5,
        detach_threshold=1.001,
        disable_tqdm=True,
        use_cpu=True,
    )
    config.gradient_accumulation_steps = MICRO_BATCHES // config.world_size
    data = {split: datasets.load_from_disk(str(folder / split)) for split in ("train", "validation")}
    trainer = AllInOneTrainer(
        model,
        config,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=AutoTokenizer.from_pretrained(folder / "tokenizer"),
    )
    trainer.train()
    if trainer.is_world_process_zero():
        save_file(
            {key: value.clone() for key, value in model.state_dict().items() if key != "lm_head.weight"},
            folder / f"{name}.safetensors",
        )
        report = {
            "processes": trainer.accelerator.num_processes,
            "dropout": model.config.dropout,
            "log": trainer.state.log_history,
        }
        (folder / f"{name}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
