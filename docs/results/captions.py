"""Trains and scores the systems of docs/results.md on captions, several side by side on a GPU; goes on where it was cut off.

python docs/results/captions.py FOLDER_WITH_THE_TEXT OUTPUT [--jobs 8] [--seconds 500] [--field value …]
"""

import gzip
import shutil
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from study import Job, Study

PAIRS = 10_000
TEXT = ("--data.data_dir=text", "--data.train=first", "--evaluation.splits=[]")
SHAPE = (
    *TEXT,
    *("--model.d_model=256", "--model.encoder_ffn_dim=1024", "--model.decoder_ffn_dim=1024", "--bf16=true"),
    *("--max_tokens=4096", "--max_steps=1600", "--warmup_steps=160", "--eval_steps=200", "--logging_steps=100"),
)
GRID = [(rate, dropout) for rate in ("5e-4", "1e-3") for dropout in ("0.2", "0.3")]
DEPTHS = {"6-6": [], "6-2": ["--model.decoder_layers=2"], "2-2": ["--model.encoder_layers=2", "--model.decoder_layers=2"]}
FIRST = ("--kd_weight=5.5", "--mutual_start=0.5", "--always=[]", "--max_grad_norm=0.3333333")  # as it was shipped first


def plain(depth: str, *words: str) -> list[str]:
    """A model trained alone."""
    return ["--method=plain", *DEPTHS[depth], *words]


def family(*words: str) -> list[str]:
    """A form of All-in-One KD, of which three depths are scored."""
    return ["--evaluation.depths=[6-6, 6-2, 2-2]", *words]


def jobs(
    study: Study, shape: Sequence[str] = SHAPE, points: Sequence[tuple[str, str]] = GRID, updates: int = 1600
) -> list[Job]:
    """All work, in the order of the protocol: what its primary comparisons need first."""
    systems = {**{f"plain-{depth}": plain(depth) for depth in DEPTHS}, "aio": family()}
    grid = {system: tuple(f"grid-{system}-{rate}-{dropout}" for rate, dropout in points) for system in systems}
    found = []
    for system, words in systems.items():
        for name, (rate, dropout) in zip(grid[system], points, strict=True):
            point = [*shape, *words, f"--learning_rate={rate}", f"--model.dropout={dropout}"]
            found.append(Job(name, partial(list, point), scored=False))

    def chosen(like: str, words: list[str]) -> list[str]:
        rate, dropout = points[grid[like].index(study.best(grid[like]))]
        return [*shape, f"--learning_rate={rate}", f"--model.dropout={dropout}", *words]

    def add(name: str, like: str, words: list[str], seed: int = 1, models: tuple[str, ...] = ()) -> None:
        done = partial(chosen, like, [*words, f"--seed={seed}"])
        found.append(Job(f"{name}-{seed}", done, (*grid[like], *models), models=models))

    for system in systems:
        once = partial(chosen, system, [*systems[system], "--seed=1"])
        words = partial(lambda like, once: study.again(study.best(grid[like]), once()), system, once)
        found.append(Job(f"{system}-1", words, grid[system]))

    def seeds(seed: int) -> None:
        add("aio", "aio", family(), seed)
        for depth in DEPTHS:
            add(f"plain-{depth}", f"plain-{depth}", plain(depth), seed)

    def word_kd(depth: str, seed: int = 1) -> None:
        teacher = f"plain-6-6-{seed}"
        taught = ["--method=word_kd", f"--teachers=runs/{teacher}", *DEPTHS[depth]]
        add(f"word-kd-{depth}", f"plain-{depth}", taught, seed, (teacher,))

    r_drop = partial(plain, "6-6", "--consistency=r_drop")
    add("r-drop-6-6", "plain-6-6", r_drop())
    word_kd("2-2")
    seeds(2)
    add("r-drop-6-6", "plain-6-6", r_drop(), 2)
    word_kd("2-2", 2)
    add("r-drop-2-2", "plain-2-2", plain("2-2", "--consistency=r_drop"))
    add("two-views", "aio", family("--views=two"))
    add("first", "aio", family(*FIRST))
    add("paper", "aio", family("--preset=paper"))
    word_kd("6-2")
    teacher = ("plain-6-6-1",)
    found.append(Job("distilled", lambda: ["distill", "runs/plain-6-6-1"], teacher, models=teacher))
    distilled = ("--data.distilled_dir=distilled", "--load_best_model_at_end=false")  # see the changes to the protocol
    add("seq-kd-2-2", "plain-2-2", plain("2-2", *distilled), models=("distilled",))
    add("aio-seq-kd", "aio", family(*distilled), models=("distilled",))
    add("two-views", "aio", family("--views=two"), 2)
    seeds(3)
    twice = (f"--max_steps={2 * updates}", f"--warmup_steps={updates // 5}")
    add("long-aio", "aio", family(*twice))
    for depth in DEPTHS:
        add(f"long-plain-{depth}", f"plain-{depth}", plain(depth, *twice))
    return found


def write_text(source: Path, folder: Path, pairs: int = PAIRS) -> None:
    """The first pairs of the training text, and the other splits as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for side in ("de", "en"):
        with gzip.open(source / f"train.{side}.gz", "rb") as file:
            (folder / f"first.{side}").write_bytes(b"".join(islice(file, pairs)))
        for split in ("val", "test_2016_flickr"):
            shutil.copy(source / f"{split}.{side}.gz", folder)


if __name__ == "__main__":
    study = Study(__file__, "multi30k-de-en", __doc__)
    if not study.options.one:
        write_text(study.options.text, study.folder / "text")
    study.run(jobs(study))
