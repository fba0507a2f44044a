"""Forms of All-in-One KD, one factor at a time from the default (docs/results.md, captions-5k); goes on where it was cut off.

python docs/results/forms.py FOLDER_WITH_THE_TEXT OUTPUT [--jobs 1] [--seconds N] [--field value …]
"""

from functools import partial
from pathlib import Path

from captions import write_text
from study import Job, Study, kept

PAIRS = 5_000
DEPTHS = ("6-6", "6-2", "2-2")
SHAPE = (
    *("--data.data_dir=text", "--data.train=first", "--evaluation.splits=[]", "--model.dropout=0.3", "--learning_rate=1e-3"),
    *("--max_tokens=1024", "--max_steps=3200", "--warmup_steps=320", "--eval_steps=400", "--logging_steps=100"),
)
FORMS = {
    "default": ("the default", ()),
    "alpha-0.5": ("α = 0.5", ("--kd_weight=0.5",)),
    "alpha-5.5": ("α = 5.5", ("--kd_weight=5.5",)),
    "two-views": ("two views", ("--views=two",)),
    "independent": ("independent views", ("--views=independent",)),
    "two-stages": ("two stages", ("--mutual_start=0.5",)),
    "uniform": ("no student always drawn", ("--always=[]",)),
    "three": ("K = 3", ("--num_students=3",)),
    "r-drop": ("R-Drop between two views of the teacher", ("--consistency=r_drop",)),
    "averaged": ("averaged weights, 0.999", ("--ema_decay=0.999",)),
}
FIGURES = Path(__file__).with_suffix(".json")


def jobs() -> list[Job]:
    """All forms, in the order of the table."""
    return [Job(name, partial(list, [*SHAPE, *words, "--seed=1"]), scored=False) for name, (_, words) in FORMS.items()]


def table() -> str:
    """Validation cross-entropy of three depths at the update that was kept, and processor hours."""
    lines = ["| form | mean of three | less the default | 6-6 | 6-2 | 2-2 | best update | core hours |", "|---" * 8 + "|"]
    known, curves, base = kept(FIGURES), kept(FIGURES.with_stem("forms-curves")), None
    for name, (title, _) in FORMS.items():
        if name not in known:
            continue
        took = {row["metric"]: row["value"] for row in known[name] if row["split"] == "train"}
        line = next(line for line in curves[name] if line["step"] == took["best_update"])
        losses = [line[f"eval_loss_{depth}"] for depth in DEPTHS]
        mean = sum(losses) / len(losses)
        base = mean if base is None else base
        difference = f"{mean - base:+.3f}".replace("-", "−") if name != "default" else ""
        cells = [title, f"{mean:.3f}", difference, *(f"{loss:.3f}" for loss in losses), f"{took['best_update']:,.0f}"]
        lines.append(f"| {' | '.join([*cells, format(took['core_hours'], '.2f')])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    study = Study(__file__, "multi30k-de-en", __doc__)
    if not study.options.one:
        write_text(study.options.text, study.folder / "text", PAIRS)
    study.run(jobs())
