"""What samplers that learn cost: an update of χ-IBR, and the decisions of MultiUAT and MultiDDS-S."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import TrainerControl

from hf_paretokd.bench.shapes import Shape, random_model, random_pairs
from hf_paretokd.bench.steps import SMOOTHING, Batch, Settings, Step, joint_step, trainer_step
from hf_paretokd.bench.training import Report
from hf_paretokd.data.sampling import TOP_IDS, TOP_LOGITS
from hf_paretokd.methods.multi_distill import MultiDistillConfig, MultiDistillModel
from hf_paretokd.methods.plain import PlainConfig, PlainTrainer
from hf_paretokd.models.states import target_tokens
from hf_paretokd.utils.machine import fastest_device
from hf_paretokd.utils.timing import interleaved_medians

PAIRS = 8


def sampling_trainer(shape: Shape, options: Settings, folder: Path, kind: str) -> PlainTrainer:
    """A plain trainer of eight language pairs with a sampler."""
    pairs = random_pairs(shape, {f"x{number}-yy": 40 * (number + 1) for number in range(PAIRS)}, 1)
    fields: dict[str, Any] = {"max_tokens": options.max_tokens, "max_steps": 10**6, "report_to": "none", "bf16": False}
    fields |= {"label_smoothing_factor": SMOOTHING, "eval_strategy": "no", "use_cpu": fastest_device().type == "cpu"}
    if kind != "none":
        fields["samplers"] = [kind]
    if kind == "chi_ibr":
        random_model(shape).save_pretrained(folder / "baseline")
        fields["sampler_baseline"] = str(folder / "baseline")
    return PlainTrainer(random_model(shape), PlainConfig(str(folder), **fields), pairs, pairs)


def updates(trainer: PlainTrainer, batch: Batch) -> Step:
    """An update of a training with all that its sampler does at each."""
    inputs = {"number": 0, "batches": [{**batch, "pair": "x0-yy"}]}
    step = trainer_step(trainer, lambda: inputs)
    trainer.state.global_step = 1

    def whole() -> None:
        step()
        if trainer.samplers:
            trainer.samplers.on_step_end(trainer.args, trainer.state, TrainerControl())

    return whole


def multi_distill_step(shape: Shape, batches: Sequence[Batch], count: int) -> Step:
    """A step of Multi-Distill, from entries that are there."""
    model = MultiDistillModel(
        random_model(shape),
        MultiDistillConfig("unused", bf16=False, label_smoothing_factor=SMOOTHING, teachers=["unused"]),
    )
    model.weights = {batch["pair"]: 0.9 for batch in batches}

    def taught(batch: Batch) -> Batch:
        shaped = (len(target_tokens(batch)), count)
        ids = torch.randint(shape.vocabulary - 1, shaped, device=fastest_device())
        return {**batch, TOP_IDS: ids, TOP_LOGITS: torch.randn(shaped, device=fastest_device())}

    return joint_step(model, [[taught(batch)] for batch in batches], dict)


def bench_samplers(shape: Shape, batches: Sequence[Batch], options: Settings, report: Report) -> None:
    """Updates and decisions in plain steps of as many tokens."""
    with tempfile.TemporaryDirectory() as folder:
        kinds = {
            kind: sampling_trainer(shape, options, Path(folder), kind) for kind in ("none", "chi_ibr", "multi_uat", "multi_dds")
        }
        steps = {kind: updates(kinds[kind], batches[0]) for kind in ("none", "chi_ibr")}
        times = interleaved_medians(steps, max(15, options.repeats))
        report.ratio("χ-IBR, an update / plain step", 1.0, times["chi_ibr"] / times["none"])
        passes = kinds["multi_uat"].args.sampler_passes
        for kind, name, bound in (
            ("multi_uat", f"MultiUAT, a decision on {PAIRS} pairs, K = {passes} / plain step", PAIRS * passes / 3),
            ("multi_dds", f"MultiDDS-S, a decision on {PAIRS} pairs / plain step", 2.0 * PAIRS),
        ):
            trainer, found = kinds[kind], []
            for number in range(3):
                start = time.perf_counter()
                trainer.samplers.rules[0].decide(number)  # type: ignore[union-attr]
                found.append(time.perf_counter() - start)
            report.ratio(name, bound, median(found) / times["none"])
