"""Trains a few updates of each method in however many processes it was started with, and writes what came out."""

import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import accelerate
import datasets
import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_paretokd import (
    AllInOneConfig,
    AllInOneTrainer,
    LSSDConfig,
    LSSDTrainer,
    ParetoAllInOneConfig,
    ParetoAllInOneTrainer,
    ParetoMutualConfig,
    ParetoMutualTrainer,
    PlainConfig,
    PlainTrainer,
    WordKDConfig,
    WordKDTrainer,
)
from hf_paretokd.inference.decoding import decode_all, decoder_of
from hf_paretokd.methods.students import LossRules
from hf_paretokd.training.generation import padded
from hf_paretokd.training.sharding import is_sharded

MICRO_BATCHES = 4
LEARNED = {"samplers": ["chi_ibr"], "sampler_interval": 2, "sampler_baseline": "teacher"}
DECIDED = {"samplers": ["multi_uat", "multi_dds"], "sampler_interval": 2, "sampler_passes": 2}
METHODS = {
    "all_in_one": (
        AllInOneTrainer,
        AllInOneConfig,
        {"max_steps": 50, "eval_steps": 50, "mutual_start": 0.5, "detach_threshold": 1.01, "learning_rate": 5e-4},
    ),
    "auto": (
        ParetoMutualTrainer,
        ParetoMutualConfig,
        {"max_steps": 5, "eval_steps": 5, "strategy": "auto", "update_interval": 2, "trial_share": 0.03},
    ),
    "uni": (
        ParetoMutualTrainer,
        ParetoMutualConfig,
        {"max_steps": 3, "eval_steps": 3, "strategy": "uni", "update_interval": 1},
    ),
    "r_drop": (PlainTrainer, PlainConfig, {"max_steps": 4, "eval_steps": 4, "consistency": "r_drop", "unimax_epochs": [2.0]}),
    "simcut": (
        PlainTrainer,
        PlainConfig,
        {"max_steps": 4, "eval_steps": 4, "consistency": "simcut", "cut_rate": 0.2} | LEARNED,
    ),
    "two_views": (
        AllInOneTrainer,
        AllInOneConfig,
        {"max_steps": 4, "eval_steps": 2, "views": "two", "ema_decay": 0.8, "mutual_start": 0.5},
    ),
    "word_kd": (
        WordKDTrainer,
        WordKDConfig,
        {"max_steps": 4, "eval_steps": 4, "teachers": ["teacher"], "selection": "queue", "queue_size": 300},
    ),
    "both": (
        ParetoAllInOneTrainer,
        ParetoAllInOneConfig,
        {"max_steps": 4, "eval_steps": 4, "strategy": "uni", "update_interval": 1, **DECIDED},
    ),
    "lssd": (LSSDTrainer, LSSDConfig, {"max_steps": 5, "eval_steps": 5, "update_interval": 1, "learning_rate": 0.02}),
}


def shard_on_cpu() -> None:
    """Has accelerate divide models as it does on GPUs; on CPUs it takes no notice of what its configuration says of FSDP."""
    init = accelerate.Accelerator.__init__

    def forced(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.state.distributed_type, self.state.fsdp_plugin = DistributedType.FSDP, FullyShardedDataParallelPlugin()

    accelerate.Accelerator.__init__ = forced


def decisions(rules: LossRules) -> list[list]:
    """Notes what the rules decide for every micro-batch: which students are detached, who is senior."""
    noted, decide = [], rules.divergences

    def deciding(*args):
        terms = decide(*args)
        noted.append([(term.teacher, term.student, term.teacher_gradient) for term in terms])
        return terms

    object.__setattr__(rules, "divergences", deciding)  # the rules are frozen
    return noted


def main(folder: Path, name: str, methods: Iterable[str] = METHODS) -> None:
    torch.set_num_threads(1)
    if "ACCELERATE_USE_FSDP" in os.environ:
        shard_on_cpu()
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    data = {split: datasets.load_from_disk(str(folder / split)) for split in ("train", "validation")}
    for method in methods:
        trainer_class, config_class, fields = METHODS[method]
        common = {
            "output_dir": str(folder / name / method),
            "max_tokens": 300,
            "warmup_steps": 2,
            "learning_rate": 2e-3,
            "logging_steps": 1,
            "disable_tqdm": True,
            "use_cpu": True,
            "bf16": False,
        }
        if "teachers" in fields:
            fields = {**fields, "teachers": [str(folder / name) for name in fields["teachers"]]}
        if "sampler_baseline" in fields:
            fields = {**fields, "sampler_baseline": str(folder / fields["sampler_baseline"])}
        config = config_class(**{**common, **fields})
        config.gradient_accumulation_steps = MICRO_BATCHES // config.world_size
        models = [AutoModelForSeq2SeqLM.from_pretrained(folder / f"model-{peer}") for peer in range(len(config.temperatures))]
        text = {"train_dataset": data["train"], "eval_dataset": data["validation"]}
        trainer = trainer_class(models if len(models) > 1 else models[0], config, **text, processing_class=tokenizer)
        noted = decisions(trainer.model.rules) if method == "all_in_one" else []
        trainer.train()
        (folder / f"{name}-{method}-decisions-{config.process_index}.json").write_text(json.dumps(noted))
        rows = data["validation"]["bs-en"]
        predicted = trainer.predict(rows, num_beams=1, max_length=9).predictions.tolist()
        with trainer.whole_models() as joint:
            models = joint.models()
        report = {}
        if is_sharded(trainer.model) and method == "two_views":
            if trainer.is_world_process_zero():
                shutil.rmtree(trainer.checkpoint(4))
            again = trainer_class(str(folder / "model-0"), config, **text, processing_class=tokenizer)
            again.train(resume_from_checkpoint=True)
            with again.whole_models() as joint:
                resumed, expected = joint.main_model.state_dict(), models[0].state_dict()
            report["resumed"] = all(torch.equal(each, resumed[key]) for key, each in expected.items())
            report["files"] = sorted(path.name for path in again.checkpoint(4).iterdir())
        if trainer.is_world_process_zero():
            decoder = decoder_of(models[0], tokenizer, "transformers")
            alone = padded(decode_all(decoder, rows["input_ids"], 9, 1, 300)).tolist()
            weights = {
                f"{peer}.{key}": value.clone()
                for peer, model in enumerate(models)
                for key, value in model.state_dict().items()
                if key != "lm_head.weight"
            }
            save_file(weights, folder / f"{name}-{method}.safetensors")
            report |= {
                "sharded": is_sharded(trainer.model),
                "processes": trainer.accelerator.num_processes,
                "dropout": models[0].config.dropout,
                "predicted": predicted,
                "alone": alone,
                "log": trainer.state.log_history,
                "history": trainer.rule.history if method in ("auto", "uni") else [],
            }
            (folder / f"{name}-{method}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
