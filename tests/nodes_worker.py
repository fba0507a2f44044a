"""Trains on a node whose disk nobody shares: once through, once more from a checkpoint, once until another node dies."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import datasets
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, TrainerCallback

from hf_paretokd import AllInOneConfig, AllInOneTrainer, TrainingError

TIMEOUT = 60  # seconds


class Death(TrainerCallback):
    """The process goes without a word."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3 and args.process_index == 1:
            os._exit(9)


def main(given: Path) -> None:
    """The working folder is the node's disk."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(given / "tokenizer")
    data = {split: datasets.load_from_disk(str(given / split)) for split in ("train", "validation")}

    def trainer(folder: str, steps: int, *callbacks: TrainerCallback) -> AllInOneTrainer:
        fields = {"max_steps": steps, "eval_steps": 2, "save_steps": 2, "save_total_limit": None, "logging_steps": 2}
        config = AllInOneConfig(
            folder, max_tokens=300, warmup_steps=2, disable_tqdm=True, use_cpu=True, bf16=False, ddp_timeout=TIMEOUT, **fields
        )
        model = AutoModelForSeq2SeqLM.from_pretrained(given / "model-0")
        return AllInOneTrainer(model, config, data["train"], data["validation"], tokenizer, callbacks=list(callbacks))

    once = trainer("run", 4)
    once.train()
    if once.args.process_index == 0:
        once.checkpoint(4).rename("later")
    else:
        shutil.rmtree("run")
        (stale := Path("run/checkpoints/checkpoint-2")).mkdir(parents=True)  # of another training
        (stale / "manifest.json").write_text('{"files": {}}')
    again = trainer("run", 4)
    again.train(resume_from_checkpoint=True)
    same = all(torch.equal(value, again.model.state_dict()[name]) for name, value in once.model.state_dict().items())
    report = {"same": same, "steps": again.state.global_step, "nodes": once.args.world_size, "timeout": waits()}
    Path("report.json").write_text(json.dumps(report))
    begun = time.monotonic()
    try:
        trainer("dying", 500, Death()).train()
    except TrainingError as error:
        Path("report.json").write_text(json.dumps(report | {"said": str(error), "seconds": time.monotonic() - begun}))
    Path("ended").touch()


def waits() -> float:
    """How long a collective operation waits for the other processes, in seconds."""
    group = torch.distributed.group.WORLD
    return group._get_backend(torch.device("cpu")).options._timeout.total_seconds()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
