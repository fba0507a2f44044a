"""What All-in-One KD costs beyond plain training, beside what multiply-adds predict."""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_paretokd.bench.arithmetic import (
    expected_ratio,
    fixed_draws,
    recomputed_cost,
    separate_cost,
    shared_cost,
)
from hf_paretokd.bench.memory import peak_memory
from hf_paretokd.bench.shapes import Shape, random_model, random_pairs, shape_named
from hf_paretokd.bench.steps import (
    SMOOTHING,
    Batch,
    Settings,
    Step,
    all_in_one_step,
    micro_batches,
    naive_all_in_one_step,
    peers_step,
    plain_step,
    trainer_step,
    two_steps,
)
from hf_paretokd.bench.tables import BenchTable
from hf_paretokd.data.sampling import build_pair_batches
from hf_paretokd.errors import RecipeError
from hf_paretokd.losses import Divergence, OutputHead, joint_loss
from hf_paretokd.methods.plain import PlainConfig, PlainTrainer
from hf_paretokd.models.depth import Depth, candidate_depths
from hf_paretokd.models.states import shifted_right, target_tokens
from hf_paretokd.training.validation import validation_sums
from hf_paretokd.utils.machine import fastest_device, moved
from hf_paretokd.utils.timing import interleaved_medians, timed

NEVER, ALWAYS = 0.0, 1e3  # loss_memory in GB: log-probabilities computed again, or kept
LOSS_TERMS = (Divergence(0, 1, 2.75), Divergence(0, 2, 2.75), Divergence(1, 2, 0.5))  # K = 2, stage two


class Draws:
    """A list of draws; calling it gives the one at `place`."""

    def __init__(self, draws: list[list[Depth]]) -> None:
        self.all = draws
        self.place = 0

    def __call__(self) -> list[Depth]:
        """The current draw."""
        return self.all[self.place]


def mean_over_draws(draws: Draws, steps: dict[str, Step], plain: Step, repeats: int) -> tuple[dict[str, float], float]:
    """Seconds of each kind of step, the mean over draws of the median of repeats; and the median plain step in between."""
    found: dict[str, list[list[float]]] = {name: [[] for _ in draws.all] for name in steps}
    plains: list[float] = []
    for step in (*steps.values(), plain):
        step()
    for _ in range(repeats):
        for place in tqdm(range(len(draws.all)), desc="draws", leave=False, disable=None):
            draws.place = place
            for name, step in steps.items():
                found[name][place].append(timed(step))
            plains.append(timed(plain))
    return {name: statistics.fmean(map(statistics.median, each)) for name, each in found.items()}, statistics.median(plains)


def validation_ratio(shape: Shape, max_tokens: int, repeats: int) -> float:
    """Validation of all candidates at once beside one after the other."""
    model = moved(random_model(shape), fastest_device()).eval()
    model.set_attn_implementation("eager" if fastest_device().type == "cpu" else "sdpa")
    pairs = random_pairs(shape, {"xx-yy": 2 * max(1, max_tokens // 25)}, 4)
    batches = build_pair_batches(pairs, max_tokens)
    depths = candidate_depths(Depth(shape.layers, shape.layers))

    def validate(groups: Sequence[Sequence[Depth]]) -> Step:
        def step() -> None:
            for group in groups:
                validation_sums(model, pairs, batches, group, SMOOTHING, "torch")

        return step

    times = interleaved_medians({"shared": validate([depths]), "separate": validate([[d] for d in depths])}, repeats)
    return times["shared"] / times["separate"]


def loss_inputs(shape: Shape, tokens: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """Hidden states of three models, the output matrix and targets."""
    generator = torch.Generator().manual_seed(5)
    states = [torch.randn(tokens, shape.width, generator=generator) for _ in range(3)]
    weight = torch.randn(shape.vocabulary - 1, shape.width, generator=generator) * shape.width**-0.5
    targets = torch.randint(0, shape.vocabulary - 1, (tokens,), generator=generator)
    return (
        [each.to(fastest_device()).requires_grad_() for each in states],
        weight.to(fastest_device()).requires_grad_(),
        targets.to(fastest_device()),
    )


def loss_step(shape: Shape, tokens: int, form: str) -> Step:
    """Forward and backward of the All-in-One loss alone: `kept`, `computed again`, or `torch`, the plain form."""
    states, weight, targets = loss_inputs(shape, tokens)
    memory = round({"kept": ALWAYS, "computed again": NEVER, "torch": NEVER}[form] * 1e9)

    def fused() -> Tensor:
        heads = [OutputHead(weight)] * 3
        return joint_loss(states, heads, targets, SMOOTHING, [1.0] * 3, lambda _: LOSS_TERMS, loss_memory=memory).total

    def plain() -> Tensor:
        logits = [state @ weight.T for state in states]
        log_probs = [F.log_softmax(each, dim=-1) for each in logits]
        entropies = [F.cross_entropy(each, targets, label_smoothing=SMOOTHING, reduction="sum") for each in logits]
        total = torch.stack(entropies).sum()
        for term in LOSS_TERMS:
            student, teacher = log_probs[term.student], log_probs[term.teacher]
            total = total + term.weight * F.kl_div(student, teacher, log_target=True, reduction="sum")
        return total

    def step() -> None:
        (plain() if form == "torch" else fused()).backward()
        for each in (*states, weight):
            each.grad = None

    return step


def inputs_and_gradients(shape: Shape, tokens: int) -> None:
    """What a loss cannot do without: its inputs and their gradients."""
    states, weight, _ = loss_inputs(shape, tokens)
    for each in (*states, weight):
        each.grad = torch.ones_like(each)


def one_loss(shape: Shape, tokens: int, form: str) -> None:
    """One forward and backward, for its memory."""
    loss_step(shape, tokens, form)()


def loss_memory(shape: Shape, tokens: int) -> dict[str, float]:
    """Peak GB of each form of the loss above its inputs and their gradients, each in a fresh process."""
    base = peak_memory(inputs_and_gradients, shape, tokens)
    return {form: peak_memory(one_loss, shape, tokens, form) - base for form in ("torch", "kept", "computed again")}


def trainer_ratio(shape: Shape, batches: Sequence[Batch], repeats: int) -> float:
    """A plain step through this library's trainer beside one through the stock trainer, on the same micro-batch."""
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {
            "output_dir": folder,
            "label_smoothing_factor": SMOOTHING,
            "report_to": "none",
            "bf16": False,
            "use_cpu": fastest_device().type == "cpu",
        }
        ours = PlainTrainer(random_model(shape), PlainConfig(**options, eval_strategy="no"))
        model = random_model(shape)
        stock = Seq2SeqTrainer(model, Seq2SeqTrainingArguments(**options))
        first = batches[0]
        plain = {name: value for name, value in first.items() if name != "pair"}
        plain["decoder_input_ids"] = shifted_right(model, first["labels"])  # as the stock collator adds them
        steps = {
            "ours": trainer_step(ours, lambda: {"number": 0, "batches": [first]}),
            "stock": trainer_step(stock, lambda: dict(plain)),
        }
        times = interleaved_medians(steps, repeats)
    return times["ours"] / times["stock"]


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """`Settings`, and the tokens for which the memory of the loss alone is measured."""

    loss_tokens: int = 4096


class Report:
    """The table that grows while parts are measured."""

    def __init__(self, title: str) -> None:
        self.table = BenchTable(title, ("what", "arithmetic", "measured"))

    def ratio(self, name: str, predicted: float | None, measured: float) -> None:
        """A row with a ratio beside what multiply-adds predict."""
        self.table.add(name, "" if predicted is None else f"{predicted:.2f}", f"{measured:.2f}")

    def figure(self, name: str, text: str) -> None:
        """A row with a figure in units."""
        self.table.add(name, "", text)


def bench_students(shape: Shape, batches: Sequence[Batch], options: TrainingSettings, report: Report) -> None:
    """All-in-One steps with one, two and three students."""
    tokens = sum(len(target_tokens(batch)) for batch in batches) / len(batches)
    plain = plain_step(shape, batches)
    for students in (1, 2, 3):
        draws = Draws(fixed_draws(shape, students))
        steps = {"shared": all_in_one_step(shape, batches, draws, ALWAYS)}
        if students == 2:
            steps["computed again"] = all_in_one_step(shape, batches, draws, NEVER)
            steps["naive"] = naive_all_in_one_step(shape, batches, draws)
        times, base = mean_over_draws(draws, steps, plain, options.repeats)
        expected = expected_ratio(shape, students, shared_cost)
        report.ratio(f"All-in-One step, K = {students} / plain step", expected, times["shared"] / base)
        if students == 2:
            again, naive = expected_ratio(shape, 2, recomputed_cost), expected_ratio(shape, 2, separate_cost)
            report.ratio("  with log-probabilities computed again", again, times["computed again"] / base)
            report.ratio("  K+1 whole passes / plain step", naive, times["naive"] / base)
            report.ratio("  shared / K+1 whole passes", expected / naive, times["shared"] / times["naive"])
            report.figure("  target tokens a second, plain", f"{tokens / base:,.0f}")
            report.figure("  target tokens a second, K = 2", f"{tokens / times['shared']:,.0f}")


def bench_peers(shape: Shape, batches: Sequence[Batch], options: TrainingSettings, report: Report) -> None:
    """An update of two peers; searches are in `paretokd bench pareto`."""
    steps = {"plain": plain_step(shape, batches), "peers": peers_step(shape, batches)}
    times = interleaved_medians(steps, max(5, options.repeats))
    report.ratio("peer update, all α > 0 / plain step", 4 / 3, times["peers"] / 2 / times["plain"])


def bench_validation(shape: Shape, batches: Sequence[Batch], options: TrainingSettings, report: Report) -> None:
    """Validation of all candidates."""
    depths = candidate_depths(Depth(shape.layers, shape.layers))
    predicted = shared_cost(shape, depths) / separate_cost(shape, depths)
    measured = validation_ratio(shape, options.max_tokens, max(3, options.repeats))
    report.ratio(f"validation of {len(depths)} students / separate passes", predicted, measured)


def bench_trainer(shape: Shape, batches: Sequence[Batch], options: TrainingSettings, report: Report) -> None:
    """What this library's trainer adds to the stock one."""
    measured = trainer_ratio(shape, batches, max(7, options.repeats))
    report.ratio("plain step / stock Seq2SeqTrainer step", 1.0, measured)


def bench_loss(shape: Shape, batches: Sequence[Batch], options: TrainingSettings, report: Report) -> None:
    """Time and memory of the All-in-One loss by itself."""
    forms = ("torch", "kept", "computed again")
    losses = interleaved_medians({form: loss_step(shape, options.max_tokens, form) for form in forms}, 3)
    for form in forms[1:]:
        report.ratio(f"All-in-One loss alone, {form} / torch", None, losses[form] / losses["torch"])
    for form, peak in loss_memory(shape, options.loss_tokens).items():
        report.figure(f"memory of that loss, {options.loss_tokens} tokens, {form}", f"{peak:.2f} GB")


def bench_memory(shape: Shape, batches: Sequence[Batch], options: TrainingSettings, report: Report) -> None:
    """Peak memory of every kind of step, each in a fresh process."""
    for name, make in MEMORY_STEPS.items():
        report.figure(f"peak memory, {name}", f"{peak_memory(two_steps, make, shape, options.max_tokens):.2f} GB")


def full_students(shape: Shape) -> list[Depth]:
    """Two students that are as large as students get."""
    return [Depth(shape.layers, shape.layers), Depth(shape.layers - 1, shape.layers - 1)]


def all_in_one_kept(shape: Shape, batches: Sequence[Batch]) -> Step:
    """An All-in-One step with large students, log-probabilities kept."""
    return all_in_one_step(shape, batches, lambda: full_students(shape), ALWAYS)


def all_in_one_again(shape: Shape, batches: Sequence[Batch]) -> Step:
    """The same with log-probabilities computed again."""
    return all_in_one_step(shape, batches, lambda: full_students(shape), NEVER)


def all_in_one_naive(shape: Shape, batches: Sequence[Batch]) -> Step:
    """The same with whole passes."""
    return naive_all_in_one_step(shape, batches, lambda: full_students(shape))


MEMORY_STEPS = {
    "plain step": plain_step,
    "All-in-One step, K = 2": all_in_one_kept,
    "All-in-One step, log-probabilities computed again": all_in_one_again,
    "All-in-One step, K+1 whole passes": all_in_one_naive,
    "two peers": peers_step,
}
PARTS = {
    "students": bench_students,
    "peers": bench_peers,
    "validation": bench_validation,
    "trainer": bench_trainer,
    "loss": bench_loss,
    "memory": bench_memory,
}


def bench_training(options: TrainingSettings, parts: Sequence[str] | None = None) -> BenchTable:
    """What All-in-One KD costs; `parts` are some of `PARTS` (default: all).

    Raises:
        RecipeError: there is no such shape or part.
    """
    for part in parts or ():
        if part not in PARTS:
            raise RecipeError(f"--parts: {part!r} is not one of {', '.join(PARTS)}")
    shape = shape_named(options.shape)
    batches = micro_batches(shape, options.max_tokens, 1)
    report = Report(options.title)
    for part in parts or PARTS:
        PARTS[part](shape, batches, options, report)
    return report.table
