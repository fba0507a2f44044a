"""Trains and scores the systems of docs/results.md on captions, several side by side on a GPU; goes on where it was cut off.

python docs/results/captions.py FOLDER_WITH_THE_TEXT OUTPUT [--jobs 8] [--seconds 500] [--field value …]
"""

import gzip
import shutil
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

from study import Job, Study

PAIRS = 10_000
SHAPE = (
    *("--data.data_dir=text", "--data.train=first", "--evaluation.splits=[]"),
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


def jobs(study: Study) -> list[Job]:
    """All work, in the order of the protocol."""
    systems = {**{f"plain-{depth}": plain(depth) for depth in DEPTHS}, "aio": family()}
    grid = {system: tuple(f"grid-{system}-{rate}-{dropout}" for rate, dropout in GRID) for system in systems}
    found = []
    for system, words in systems.items():
        for name, (rate, dropout) in zip(grid[system], GRID, strict=True):
            point = [*SHAPE, *words, f"--learning_rate={rate}", f"--model.dropout={dropout}"]
            found.append(Job(name, partial(list, point), scored=False))

    def chosen(like: str, words: list[str]) -> list[str]:
        rate, dropout = GRID[grid[like].index(study.best(grid[like]))]
        return [*SHAPE, f"--learning_rate={rate}", f"--model.dropout={dropout}", *words]

    def add(name: str, like: str, words: list[str], seed: int = 1, models: tuple[str, ...] = ()) -> None:
        done = partial(chosen, like, [*words, f"--seed={seed}"])
        found.append(Job(f"{name}-{seed}", done, (*grid[like], *models), models=models))

    for system in systems:
        once = partial(chosen, system, [*systems[system], "--seed=1"])
        words = partial(lambda like, once: study.again(study.best(grid[like]), once()), system, once)
        found.append(Job(f"{system}-1", words, grid[system]))
    add("r-drop-6-6", "plain-6-6", plain("6-6", "--consistency=r_drop"))
    add("r-drop-2-2", "plain-2-2", plain("2-2", "--consistency=r_drop"))
    add("two-views", "aio", family("--views=two"))
    seeds(add, 2)
    add("r-drop-6-6", "plain-6-6", plain("6-6", "--consistency=r_drop"), 2)
    add("first", "aio", family(*FIRST))
    add("paper", "aio", family("--preset=paper"))
    for depth in ("2-2", "6-2"):
        taught = ["--method=word_kd", "--teachers=runs/plain-6-6-1", *DEPTHS[depth]]
        add(f"word-kd-{depth}", f"plain-{depth}", taught, models=("plain-6-6-1",))
    teacher = ("plain-6-6-1",)
    found.append(Job("distilled", lambda: ["distill", "runs/plain-6-6-1"], teacher, models=teacher))
    distilled = ("--data.distilled_dir=distilled", "--load_best_model_at_end=false")  # see the changes to the protocol
    add("seq-kd-2-2", "plain-2-2", plain("2-2", *distilled), models=("distilled",))
    add("aio-seq-kd", "aio", family(*distilled), models=("distilled",))
    seeds(add, 3)
    twice = ("--max_steps=3200", "--warmup_steps=320")
    add("long-aio", "aio", family(*twice))
    for depth in DEPTHS:
        add(f"long-plain-{depth}", f"plain-{depth}", plain(depth, *twice))
    return found


def seeds(add: Callable[..., None], seed: int) -> None:
    """Plain models, the default form and two views once more."""
    add("aio", "aio", family(), seed)
    for depth in DEPTHS:
        add(f"plain-{depth}", f"plain-{depth}", plain(depth), seed)
    add("two-views", "aio", family("--views=two"), seed)


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
