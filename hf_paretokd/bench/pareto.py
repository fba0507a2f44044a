"""What Pareto mutual distillation costs beyond plain training: a peer update, a search, a second peer in memory."""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import TrainerCallback

from hf_paretokd.allocator import keep_freed_memory
from hf_paretokd.bench.shapes import Shape, random_model, random_pairs, shape_named
from hf_paretokd.bench.timing import interleaved_medians, peak_memory, synchronise
from hf_paretokd.data.sampling import MicroBatch, PairDataset, build_pair_batches
from hf_paretokd.methods.pareto_mutual import ParetoMutualConfig, ParetoMutualModel, ParetoMutualTrainer
from hf_paretokd.methods.plain import PlainConfig, PlainModel
from hf_paretokd.models.joint import JointModel

PEER_BOUND = 4 / 3  # forward and backward cost three forward passes, the teacher's pass is a fourth
SEARCH_BOUND = 0.30  # three trials of a tenth of an epoch
SHARE = 0.1


def device() -> torch.device:
    """The accelerator, or the CPU."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def micro_batches(shape: Shape, max_tokens: int, count: int) -> list[dict[str, Any]]:
    """Some micro-batches of the largest size."""
    pairs = random_pairs(shape, {"xx-yy": 40 * max(1, max_tokens // 100) * count}, 1)
    data, batches = PairDataset(pairs, shape.vocabulary - 1), build_pair_batches(pairs, max_tokens, 1)["xx-yy"]
    found = (data.fetch(MicroBatch(number, "xx-yy", batches.draw(number))) for number in range(count))
    return [
        {name: value.to(device()) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        for batch in found
    ]


def step_of(model: JointModel, batches: Sequence[Sequence[dict[str, Any]]], **arguments: Any) -> Callable[[], None]:
    """A training step: losses, gradients, clipping of each model, AdamW. Takes the micro-batches in turn."""
    model.to(device()).train()
    if device().type == "cpu":
        keep_freed_memory()  # as in training
    for _, each in model.named_models():
        each.set_attn_implementation("eager" if device().type == "cpu" else "sdpa")  # as in training
    optimizer, turn = torch.optim.AdamW(model.parameters(), lr=1e-4), iter(range(10**9))

    def step() -> None:
        mine = batches[next(turn) % len(batches)]
        tokens = torch.tensor([(batch["labels"] != -100).sum() for batch in mine], device=device())
        (model(batches=mine, seeds=[0] * len(mine), **arguments)["losses"] / tokens).sum().backward()
        for _, each in model.named_models():
            torch.nn.utils.clip_grad_norm_(each.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def steps(shape: Shape, max_tokens: int, kinds: Sequence[str]) -> dict[str, Callable[[], None]]:
    """Steps of the kinds `plain` and `peers` (two, all α > 0) on the same micro-batches."""
    batches = micro_batches(shape, max_tokens, 4)
    makers = {
        "plain": lambda: step_of(PlainModel(random_model(shape), PlainConfig(output_dir="unused")), [[b] for b in batches]),
        "peers": lambda: step_of(
            ParetoMutualModel([random_model(shape), random_model(shape)], ParetoMutualConfig(output_dir="unused")),
            [[batch, batch] for batch in batches],
            weights=[0.4, 0.4],
        ),
    }
    return {kind: makers[kind]() for kind in kinds}


def two_steps(shape: Shape, max_tokens: int, kind: str) -> None:
    """Two steps of one kind, for their memory."""
    step = steps(shape, max_tokens, [kind])[kind]
    step()
    step()


class Stopwatch(TrainerCallback):
    """Adds up the seconds of updates, searches and validations not included."""

    def __init__(self) -> None:
        self.seconds, self.start = 0.0, 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts."""
        synchronise()
        self.start = time.perf_counter()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops."""
        synchronise()
        self.seconds += time.perf_counter() - self.start


def search_costs(shape: Shape, max_tokens: int, updates: int) -> dict[str, float]:
    """Seconds of trials, validations and copies of one search and of the updates of one epoch, from a real training.

    The training is made of two epochs of `updates` updates; T is an epoch and ρ a tenth.
    """
    pairs = random_pairs(shape, {"aa-zz": 400, "bb-zz": 100}, 2)
    batches = build_pair_batches(pairs, max_tokens)
    share = updates / sum(map(len, batches.values()))
    pairs = random_pairs(shape, {name: max(4, round(len(each) * share)) for name, each in pairs.items()}, 2)
    with tempfile.TemporaryDirectory() as folder:
        config = ParetoMutualConfig(
            output_dir=folder,
            max_steps=2 * updates,
            max_tokens=max_tokens,
            update_interval=updates,
            trial_share=SHARE,
            eval_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            report_to="none",
        )
        watch = Stopwatch()
        trainer = ParetoMutualTrainer(
            [random_model(shape), random_model(shape)],
            config,
            train_dataset=pairs,
            eval_dataset=random_pairs(shape, dict.fromkeys(pairs, 20), 3),
            callbacks=[watch],
        )
        trainer.train()
    epoch = watch.seconds / config.max_steps * trainer.updates_per_pass
    trials = 2 * 3 * trainer.trials.trial_updates
    exact = 2 * 3 * SHARE * trainer.updates_per_pass / trials  # a trial has a whole number of updates
    return {**trainer.trials.seconds, "trials": trainer.trials.seconds["trials"] * exact, "epoch": epoch}


def main(words: Sequence[str]) -> None:
    """`paretokd bench pareto`."""
    parser = argparse.ArgumentParser(prog="paretokd bench pareto", description="Costs of Pareto mutual distillation.")
    parser.add_argument("--shape", default="iwslt", help="tiny, iwslt or base")
    parser.add_argument("--max_tokens", type=int, default=1024, help="tokens of a micro-batch")
    parser.add_argument("--repeats", type=int, default=7, help="timed turns of every step")
    parser.add_argument("--updates", type=int, default=10, help="updates of an epoch, for the searches")
    options = parser.parse_args(words)
    shape = shape_named(options.shape)
    times = interleaved_medians(steps(shape, options.max_tokens, ["plain", "peers"]), options.repeats)
    search = search_costs(shape, options.max_tokens, options.updates)
    memory = {kind: peak_memory(two_steps, shape, options.max_tokens, kind) for kind in ("plain", "peers")}
    table = Table(
        "what",
        "bound",
        "measured",
        title=f"{options.shape}, {options.max_tokens} tokens, {device().type}, {torch.get_num_threads()} threads",
    )
    table.add_row("plain step", "", f"{times['plain']:.3f} s")
    table.add_row("peer update, all α > 0 / plain step", f"{PEER_BOUND:.2f}", f"{times['peers'] / 2 / times['plain']:.2f}")
    table.add_row(
        "trial updates / updates (ρ = 0.1, T = epoch)", f"{SEARCH_BOUND:.2f}", f"{search['trials'] / search['epoch']:.2f}"
    )
    table.add_row("copies of one search, beside that", "", f"{search['copies']:.2f} s")
    table.add_row("validations of one search (2 peers × 3 × 40 sentences)", "", f"{search['validations']:.2f} s")
    table.add_row("peak memory, plain step", "", f"{memory['plain']:.2f} GB")
    table.add_row("peak memory, two peers", "", f"{memory['peers']:.2f} GB")
    Console().print(table)
