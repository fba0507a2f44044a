"""A training to watch: an opening box, one bar, a line for every validation and for everything that happens."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from transformers import TrainerCallback

from hf_paretokd.data.shards import Counted

if TYPE_CHECKING:
    from hf_paretokd.runs.prepare import Prepared
    from hf_paretokd.runs.recipe import Recipe
    from hf_paretokd.training.trainer import TranslationTrainer

FIRST = 10  # updates after which the time that is left can be told
WORTH = 20  # seconds that are worth a line
WIDTHS = {"update": 9, "pass": 7, "training": 10, "validation": 12, "rate": 10, "tokens/s": 10, "time": 8}
OF_TRAINING = re.compile(r"(?:peer\d+_)?(?:loss_teacher|loss)")  # cross-entropy of whole models, smoothed as it is learnt


class Watching(TrainerCallback):
    """Shows a training while it runs; raw figures are in the run's log.

    Args:
        console: where; without a terminal there is no bar and no escape.
        prepared: what is trained.
    """

    def __init__(self, console: Console, prepared: "Prepared") -> None:
        self.console, self.prepared = console, prepared
        self.trainer: TranslationTrainer | None = None
        self.bar: Progress | None = None
        self.logged: Mapping[str, float] = {}
        self.best: float | None = None
        self.decisions = 0
        self.begun, self.first = 0.0, 0
        self.headed = False  # whether the figures have their headings

    # ---- what happens

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The box, and where it goes on; the bar."""
        if not state.is_world_process_zero or self.trainer is None:
            return
        self.begun, self.first = time.monotonic(), state.global_step
        self.decisions = len(self.weights_history)
        self.best = state.best_metric
        self.console.print(opening_box(self.prepared, self.trainer))
        if state.global_step:
            self.say(f"goes on from update {state.global_step:,}")
        self.headed = False
        if self.console.is_terminal and not self.console.is_dumb_terminal and not args.disable_tqdm:
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.bar.start()
            self.task = self.bar.add_task("training", total=args.max_steps, completed=state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says when the second stage begins."""
        border = getattr(self.trainer, "border", None)
        if border and state.global_step == border and self.shows(state):
            self.say(f"stage two begins: from the best of stage one, students also learn from each other (update {border:,})")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Moves the bar; says how long it will take, and what was decided."""
        if not self.shows(state):
            return
        if self.bar:
            self.bar.update(self.task, completed=state.global_step)
        elif state.global_step == self.first + FIRST:
            left = (time.monotonic() - self.begun) / FIRST * (args.max_steps - state.global_step)
            if left > WORTH:
                self.say(f"about {duration(left)} to go, without validations")
        for decision in self.weights_history[self.decisions :]:
            self.say(decided(decision))
        self.decisions = len(self.weights_history)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Keeps what is shown with the next validation."""
        if logs and "learning_rate" in logs:
            self.logged = dict(logs)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """A line, and depths, pairs and peers below it where there are several."""
        if not self.shows(state) or not metrics:
            return
        name = args.metric_for_best_model or "loss"
        value = metrics.get(name if name.startswith("eval_") else f"eval_{name}")
        better = value is not None and (self.best is None or (value > self.best) == bool(args.greater_is_better))
        if better:
            self.best = value
        self.line(state, metrics, better)
        for text in details(metrics, args.sampling_names()):
            self.console.print(Text(f"{'':9}{text}", style="dim"), soft_wrap=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes the bar away."""
        self.stop()

    def stop(self) -> None:
        """Takes the bar away, also where the training failed: the terminal would stay without a cursor."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    # ---- how it is shown

    def shows(self, state: Any) -> bool:
        """Whether this process is the one that shows."""
        return bool(state.is_world_process_zero and self.trainer is not None)

    def say(self, text: str) -> None:
        """One line of words."""
        self.console.print(text, style="cyan", highlight=False, soft_wrap=True, markup=False)

    def line(self, state: Any, metrics: Mapping[str, float], better: bool) -> None:
        """One line of figures, headings before the first."""
        if not self.headed:
            heading = "".join(f"{name:>{width}}" for name, width in WIDTHS.items())
            self.console.print(heading, style="bold", highlight=False)
            self.headed = True
        rates = {name: self.logged.get(name) for name in ("learning_rate", "target_tokens_per_second")}
        training = of_training(self.logged)
        cells = {
            "update": f"{state.global_step:,}",
            "pass": f"{state.epoch or 0:.2f}",
            "training": "–" if training is None else f"{training:.3f}",
            "validation": f"{metrics['eval_loss']:.3f}{'*' if better else ' '}" if "eval_loss" in metrics else "–",
            "rate": "–" if rates["learning_rate"] is None else f"{rates['learning_rate']:.1e}",
            "tokens/s": "–" if rates["target_tokens_per_second"] is None else f"{rates['target_tokens_per_second']:,.0f}",
            "time": duration(metrics.get("seconds", time.monotonic() - self.begun)),
        }
        self.console.print("".join(f"{cells[name]:>{width}}" for name, width in WIDTHS.items()), highlight=False)

    @property
    def weights_history(self) -> list[dict[str, Any]]:
        """Decisions about the peers' lessons, if there are any."""
        return getattr(getattr(self.trainer, "rule", None), "history", [])


def of_training(logged: Mapping[str, float]) -> float | None:
    """Loss a target token of the whole models in training, None before the first log line.

    Label-smoothed cross-entropy as the trainings minimise it; of peers the mean of theirs without smoothing, beside which their
    lessons are logged.
    """
    found = {name: value for name, value in logged.items() if OF_TRAINING.fullmatch(name)}
    teachers = [value for name, value in found.items() if name.endswith("loss_teacher")]
    peers = [value for name, value in logged.items() if re.fullmatch(r"peer\d+_nll", name)]
    chosen = teachers or peers or ([found["loss"]] if "loss" in found else [])
    return sum(chosen) / len(chosen) if chosen else None


def details(metrics: Mapping[str, float], sampled: Sequence[str] = (), most: int = 8) -> list[str]:
    """Validation by depth, pair and peer, a line each, where there are several and they fit; what peers sample by."""
    lines = []
    for pattern in (r"eval_loss_(\d+-\d+)", r"eval_loss_([a-zA-Z]\w*-\w+)", r"eval_(peer\d+)_loss", r"eval_(bleu|chrf)"):
        found = [(match[1], value) for name, value in metrics.items() if (match := re.fullmatch(pattern, name))]
        if len(found) > 1 or (found and "bleu" in pattern):
            shown = found if len(found) <= most else [found[0], found[len(found) // 2], found[-1]]
            lines.append("  ".join(f"{beside(name, sampled)} {value:.3f}" for name, value in shown))
    return lines


def beside(name: str, sampled: Sequence[str]) -> str:
    """`peer 2 (τ = 5)` of `peer2`; other names as they are."""
    number = name.removeprefix("peer")
    if number == name or not number.isdecimal():
        return name
    return f"peer {number} ({sampled[int(number) - 1]})" if int(number) <= len(sampled) else f"peer {number}"


def decided(decision: Mapping[str, Any]) -> str:
    """A decision about the peers' lessons: α of every pair."""
    peers = []
    for number, weights in enumerate(decision["weights"], 1):
        values = list(weights.values())
        shown = ", ".join(f"{pair} {value:.2f}" for pair, value in weights.items())
        short = f"{min(values):.2f} to {max(values):.2f}" if len(values) > 4 else shown
        peers.append(f"peer {number}: α {short}" if values else f"peer {number}: none")
    return f"decision after update {decision['update']:,}; {'; '.join(peers)}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def opening_box(prepared: "Prepared", trainer: "TranslationTrainer") -> Panel:
    """What is trained, on what, for how long, where, and how it is stopped."""
    recipe, args, folder = prepared.recipe, trainer.args, prepared.recipe.run_folder
    models = ", ".join(f"{member.title} ({model.num_parameters() / 1e6:.1f} M)" for member, model in trainer.model.members())
    depths = list(map(str, trainer.student_depths()))
    if depths:
        some = f"{depths[0]} to {depths[-1]}, {len(depths)} depths" if len(depths) > 4 else ", ".join(depths)
        models += f"; students {some}"
    tokens = trainer.text.micro_batches * args.max_tokens
    passes = "" if trainer.text.streamed else f"; {args.max_steps / trainer.text.updates_per_pass:.1f} passes"
    border = getattr(trainer, "border", None)
    stages = f", two stages (the second from {border:,})" if border else ""
    device = args.device.type if args.device.type != "cpu" else cpu_threads()
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "float32"
    processes = f", {args.world_size} processes" if args.world_size > 1 else ""
    rows = {
        "models": models,
        "text": described_text(prepared.text.counted["train"]),
        "pieces": described_vocabulary(len(prepared.tokenizer), recipe),
        "updates": f"{args.max_steps:,}, each of {tokens:,} tokens{passes}{stages}",
        "on": f"{device}, {precision}{processes}",
        "folder": str(folder),
        "to stop": f"Ctrl-C; paretokd train {folder} --resume goes on",
    }
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, text in rows.items():
        grid.add_row(name, Text(text))
    return Panel(grid, title=recipe.trainer_class.facts.title, title_align="left", expand=False)


def described_vocabulary(entries: int, recipe: "Recipe") -> str:
    """How many entries there are; of a new tokenizer also why these are fewer than were asked for."""
    taken = recipe.tokenizer.from_pretrained or recipe.model.checkpoint or recipe.trainer_class.sources(recipe.training)
    asked, made = recipe.tokenizer.vocab_size, not taken
    fewer = f"; {asked:,} were asked for, and the text has no more pieces" if made and entries < asked else ""
    return f"vocabulary of {entries:,}{fewer}"


def cpu_threads() -> str:
    """The processor with the threads that work."""
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}"


def described_text(texts: Mapping[Any, Counted], most: int = 6) -> str:
    """Language pairs with their sizes, the largest first."""
    if not texts:
        return "a stream"
    ranked = sorted(texts.items(), key=lambda item: -len(item[1]))
    shown = ", ".join(f"{pair} {len(text):,}" for pair, text in ranked[:most])
    left_out = sum(sum(text.skipped.values()) for text in texts.values())
    more = f" and {len(ranked) - most} more" if len(ranked) > most else ""
    return f"{shown}{more}{f'; {left_out:,} left out' if left_out else ''}"
