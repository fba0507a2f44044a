"""Training steps to be timed, on random micro-batches: losses, gradients, clipping, AdamW."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, Seq2SeqTrainer

from hf_paretokd.bench.shapes import Shape, random_model, random_pairs
from hf_paretokd.data.batches import IGNORED
from hf_paretokd.data.facts import target_length
from hf_paretokd.data.sampling import (
    MicroBatch,
    MicroBatchStream,
    PairDataset,
    PairDistribution,
    SamplerState,
    TemperatureSampling,
    UniMaxSampling,
    build_pair_batches,
)
from hf_paretokd.methods.all_in_one import AllInOneConfig, AllInOneModel
from hf_paretokd.methods.pareto_all_in_one import ParetoAllInOneConfig, ParetoAllInOneModel
from hf_paretokd.methods.pareto_mutual import ParetoMutualConfig, ParetoMutualModel
from hf_paretokd.methods.plain import PlainConfig, PlainModel
from hf_paretokd.methods.word_kd import WordKDConfig, WordKDModel
from hf_paretokd.models.compiling import compiled_layers
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.joint import JointModel
from hf_paretokd.models.slicing import extract_student, sliced
from hf_paretokd.models.states import target_tokens
from hf_paretokd.training.averaging import WeightAverage
from hf_paretokd.utils.allocator import keep_freed_memory
from hf_paretokd.utils.machine import fastest_device, moved

Batch = dict[str, Any]
Step = Callable[[], None]
SMOOTHING = 0.1  # on every side


@dataclass(frozen=True)
class Settings:
    """What all benches of training steps share: the model's shape, tokens of a micro-batch, timed turns of every step."""

    shape: str = "iwslt"
    max_tokens: int = 512
    repeats: int = 7

    @property
    def title(self) -> str:
        """Heading of a table: what was measured on what."""
        return f"{self.shape}, {self.max_tokens} tokens, {fastest_device().type}, {torch.get_num_threads()} threads"


def micro_batches(shape: Shape, max_tokens: int, count: int) -> list[Batch]:
    """Some micro-batches of one pair, on the device."""
    pairs = random_pairs(shape, {"xx-yy": 40 * max(1, max_tokens // 100) * count}, 1)
    data, batches = PairDataset(pairs, shape.vocabulary - 1), build_pair_batches(pairs, max_tokens, 1)["xx-yy"]
    found = (data.fetch(MicroBatch(number, "xx-yy", batches.draw(number))) for number in range(count))
    return [
        {name: value.to(fastest_device()) if isinstance(value, Tensor) else value for name, value in each.items()}
        for each in found
    ]


@dataclass(frozen=True)
class Options:
    """How a step is run; by default as the trainers do it in float32. `attention` None is what suits the device."""

    attention: str | None = None
    bf16: bool = False
    compiled: bool = False
    fused: bool = True


def updating(models: Sequence[PreTrainedModel], loss: Callable[[], Tensor], options: Options = Options()) -> Step:
    """A whole step around a loss: as in training, eager attention and kept memory on CPUs."""
    for model in models:
        moved(model, fastest_device()).train()
        model.set_attn_implementation(options.attention or ("eager" if fastest_device().type == "cpu" else "sdpa"))
    if fastest_device().type == "cpu":
        keep_freed_memory()
    optimizer = torch.optim.AdamW([each for model in models for each in model.parameters()], lr=1e-4, fused=options.fused)
    layers = compiled_layers(models, "inductor", None) if options.compiled else nullcontext()
    layers.__enter__()  # for as long as the step is timed

    def step() -> None:
        with torch.autocast(fastest_device().type, torch.bfloat16, enabled=options.bf16):
            found = loss()
        found.backward()
        for model in models:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def joint_step(
    model: JointModel,
    batches: Sequence[Sequence[Batch]],
    arguments: Callable[[], dict[str, Any]],
    options: Options = Options(),
) -> Step:
    """A step of a method on micro-batches taken in turn."""
    turn = iter(range(10**9))

    def loss() -> Tensor:
        mine = batches[next(turn) % len(batches)]
        tokens = torch.tensor([len(target_tokens(batch)) for batch in mine], device=fastest_device())
        return (model(batches=mine, seeds=[0] * len(mine), **arguments())["losses"] / tokens).sum()

    return updating([each for _, each in model.named_models()], loss, options)


def plain_step(
    shape: Shape, batches: Sequence[Batch], options: Options = Options(), depth: Depth | None = None, consistency: str = "none"
) -> Step:
    """A step of ordinary training, of a shallower model if a depth is given."""
    model = random_model(shape) if depth is None else extract_student(random_model(shape), depth)
    config = PlainConfig(output_dir="unused", bf16=False, label_smoothing_factor=SMOOTHING, consistency=consistency)
    return joint_step(PlainModel(model, config), [[batch] for batch in batches], dict, options)


def consistency_step(shape: Shape, batches: Sequence[Batch], consistency: str) -> Step:
    """A step with two views of the text."""
    return plain_step(shape, batches, consistency=consistency)


def with_average(shape: Shape, batches: Sequence[Batch]) -> Step:
    """A plain step whose weights are averaged."""
    model = PlainModel(random_model(shape), PlainConfig(output_dir="unused", bf16=False, label_smoothing_factor=SMOOTHING))
    step, count = joint_step(model, [[batch] for batch in batches], dict), iter(range(1, 10**9))
    average = WeightAverage(model, 0.999)

    def averaged() -> None:
        step()
        average.update(next(count))

    return averaged


def taught_step(shape: Shape, batches: Sequence[Batch], depth: Depth) -> Step:
    """A step of a shallow student with a frozen teacher of full depth."""
    teacher = moved(random_model(shape), fastest_device()).requires_grad_(False).eval()
    teacher.set_attn_implementation("eager" if fastest_device().type == "cpu" else "sdpa")
    config = WordKDConfig(output_dir="unused", bf16=False, label_smoothing_factor=SMOOTHING, teachers=["unused"])
    model = WordKDModel(extract_student(random_model(shape), depth), config)
    model.teachers = {batch["pair"]: teacher for batch in batches}
    return joint_step(model, [[batch] for batch in batches], dict)


def sampled_step(shape: Shape, epochs: float) -> Step:
    """Drawing a micro-batch of eight pairs, by UniMax or, where N is 0, by temperature."""
    pairs = random_pairs(shape, {f"x{number}-yy": 40 * 2**number for number in range(8)}, 1)
    batches = build_pair_batches(pairs, 512, 1)
    tokens = {name: target_length(dataset) for name, dataset in pairs.items()}
    distribution: PairDistribution = (
        UniMaxSampling(tokens, {name: len(each) for name, each in batches.items()}, 1000, epochs)
        if epochs
        else TemperatureSampling({name: each.sentences for name, each in batches.items()}, 5.0)
    )
    drawn = MicroBatchStream(batches, distribution, 1).batches(SamplerState())
    return lambda: (next(drawn), None)[1]


def peers_step(shape: Shape, batches: Sequence[Batch]) -> Step:
    """A step of two peers, all α > 0."""
    config = ParetoMutualConfig(output_dir="unused", bf16=False, label_smoothing_factor=SMOOTHING)
    model = ParetoMutualModel([random_model(shape), random_model(shape)], config)
    return joint_step(model, [[batch, batch] for batch in batches], lambda: {"weights": [0.4, 0.4]})


def all_in_one_step(
    shape: Shape,
    batches: Sequence[Batch],
    draw: Callable[[], list[Depth]],
    loss_memory: float,
    options: Options = Options(),
    views: str = "shared",
) -> Step:
    """A step of All-in-One KD with the mutual loss, students as drawn; `loss_memory` and `views` as in its configuration."""
    fields: dict[str, Any] = {"label_smoothing_factor": SMOOTHING, "loss_memory": loss_memory, "views": views}
    config = AllInOneConfig(output_dir="unused", bf16=False, **fields)
    model = AllInOneModel(random_model(shape), config)
    return joint_step(model, [[batch] for batch in batches], lambda: {"students": draw(), "mutual_weight": 0.5}, options)


def both_step(shape: Shape, batches: Sequence[Batch], draw: Callable[[], list[Depth]], loss_memory: float) -> Step:
    """A step of two peers with students, all α > 0."""
    fields: dict[str, Any] = {"label_smoothing_factor": SMOOTHING, "loss_memory": loss_memory}
    config = ParetoAllInOneConfig(output_dir="unused", bf16=False, **fields)
    model, full = ParetoAllInOneModel([random_model(shape), random_model(shape)], config), Depth(shape.layers, shape.layers)

    def arguments() -> dict[str, Any]:
        students = [depth for depth in draw() if depth != full]
        return {"weights": [0.4, 0.4], "students": students, "mutual_weight": 0.5}

    return joint_step(model, [[batch, batch] for batch in batches], arguments)


def naive_all_in_one_step(shape: Shape, batches: Sequence[Batch], draw: Callable[[], list[Depth]]) -> Step:
    """The same losses from K+1 whole passes and whole logits, as one would write it down with torch."""
    model, turn = random_model(shape), iter(range(10**9))
    config = AllInOneConfig(output_dir="unused", bf16=False)

    def loss() -> Tensor:
        batch = batches[next(turn) % len(batches)]
        inputs, real = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}, batch["labels"] != IGNORED
        targets, logits = target_tokens(batch), []
        for depth in [Depth(shape.layers, shape.layers), *draw()]:
            with sliced(model, depth):
                logits.append(model(**inputs).logits[real][:, :-1])
        entropies = [F.cross_entropy(each, targets, label_smoothing=SMOOTHING, reduction="sum") for each in logits]
        log_probs = [F.log_softmax(each, dim=-1) for each in logits]
        teacher, *students = log_probs
        total = torch.stack(entropies).sum()
        for student, entropy in zip(students, entropies[1:], strict=True):
            guide = teacher.detach() if entropy > config.detach_threshold * entropies[0] else teacher
            weight = config.kd_weight / len(students)
            total = total + weight * F.kl_div(student, guide, log_target=True, reduction="sum")
        for first in range(len(students)):
            for second in range(first + 1, len(students)):
                senior, junior = (second, first) if entropies[1 + first] > entropies[1 + second] else (first, second)
                pairs = len(students) * (len(students) - 1) / 2
                total = total + config.mutual_weight / pairs * F.kl_div(
                    students[junior], students[senior], log_target=True, reduction="sum"
                )
        return total / len(targets)

    return updating([model], loss)


def trainer_step(trainer: Seq2SeqTrainer, inputs: Callable[[], dict[str, Any]]) -> Step:
    """A step as the Trainer makes it: `training_step` on one micro-batch, clipping, AdamW."""
    model = trainer.accelerator.prepare_model(trainer.model)
    parameters = list(model.parameters())
    optimizer = trainer.optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> None:
        mine = inputs()
        trainer.training_step(model, mine, trainer.get_batch_samples(iter([mine]), 1, fastest_device())[1])
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def two_steps(make: Callable[[Shape, Sequence[Batch]], Step], shape: Shape, max_tokens: int) -> None:
    """Two steps of one kind, for their memory."""
    step = make(shape, micro_batches(shape, max_tokens, 2))
    step()
    step()
