"""What Pareto mutual distillation costs beyond plain training: a peer update and a search."""

import io
import tempfile
import time
from contextlib import redirect_stdout
from typing import Any

from transformers import TrainerCallback

from hf_paretokd.bench.shapes import Shape, random_model, random_pairs, shape_named
from hf_paretokd.bench.steps import Settings, micro_batches, peers_step, plain_step
from hf_paretokd.bench.tables import BenchTable
from hf_paretokd.data.sampling import build_pair_batches
from hf_paretokd.methods.pareto_mutual import ParetoMutualConfig, ParetoMutualTrainer
from hf_paretokd.utils.timing import interleaved_medians, synchronise

PEER_BOUND = 4 / 3  # forward and backward cost three forward passes, the teacher's pass is a fourth
SEARCH_BOUND = 0.30  # three trials of a tenth of an epoch
SHARE = 0.1


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
            bf16=False,
        )
        watch = Stopwatch()
        trainer = ParetoMutualTrainer(
            [random_model(shape), random_model(shape)],
            config,
            train_dataset=pairs,
            eval_dataset=random_pairs(shape, dict.fromkeys(pairs, 20), 3),
            callbacks=[watch],
        )
        with redirect_stdout(io.StringIO()):  # the log of a training that nobody asked for
            trainer.train()
    epoch = watch.seconds / config.max_steps * trainer.text.updates_per_pass
    trials = 2 * 3 * trainer.trials.trial_updates
    exact = 2 * 3 * SHARE * trainer.text.updates_per_pass / trials  # a trial has a whole number of updates
    return {**trainer.trials.seconds, "trials": trainer.trials.seconds["trials"] * exact, "epoch": epoch}


def bench_pareto(options: Settings, updates: int) -> BenchTable:
    """What a second peer and searches cost; `updates` are those of an epoch, for the searches.

    Raises:
        RecipeError: there is no such shape.
    """
    shape = shape_named(options.shape)
    batches = micro_batches(shape, options.max_tokens, 4)
    times = interleaved_medians({"plain": plain_step(shape, batches), "peers": peers_step(shape, batches)}, options.repeats)
    search = search_costs(shape, options.max_tokens, updates)
    table = BenchTable(options.title, ("what", "bound", "measured"))
    table.add("plain step", "", f"{times['plain']:.3f} s")
    table.add("peer update, all α > 0 / plain step", f"{PEER_BOUND:.2f}", f"{times['peers'] / 2 / times['plain']:.2f}")
    trials = search["trials"] / search["epoch"]
    table.add("trial updates / updates (ρ = 0.1, T = epoch)", f"{SEARCH_BOUND:.2f}", f"{trials:.2f}")
    table.add("copies of one search, beside that", "", f"{search['copies']:.2f} s")
    table.add("validations of one search (2 peers × 3 × 40 sentences)", "", f"{search['validations']:.2f} s")
    return table
