"""Trains and scores the systems of docs/results.md on captions, several side by side; goes on where it was cut off.

    python docs/results/captions.py FOLDER_WITH_THE_TEXT OUTPUT [--jobs 8] [--seconds 500] [--pairs 10000] [--field value …]

Every system is a run in OUTPUT/runs, its scores by beam 5 are in OUTPUT/beam5; fields go to every training. Nothing new begins
after `--seconds`. What README and docs quote is packed into OUTPUT/results.tgz.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RECIPE = Path(__file__).parent.parent.parent / "recipes" / "multi30k-de-en.yaml"
GRID = [(rate, dropout) for rate in ("5e-4", "1e-3") for dropout in ("0.2", "0.3")]
DEPTHS = {"6-6": [], "6-2": ["--model.decoder_layers=2"], "2-2": ["--model.encoder_layers=2", "--model.decoder_layers=2"]}
FIRST = ["--kd_weight=5.5", "--mutual_start=0.5", "--always=[]", "--max_grad_norm=0.3333333"]  # as it was shipped first
KEPT = ("recipe.yaml", "results.json", "comparisons.json", "trainer_state.json", "distilled.json", "translations")


@dataclass(frozen=True)
class Job:
    """One piece of work: a training, the score of the best of a grid, or the text for sequence-level distillation."""

    name: str
    words: Callable[["Study"], list[str]]
    after: tuple[str, ...] = ()


class Study:
    """The folders, and which point of the grid was best."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, folder / "runs"

    def best(self, system: str) -> Path:
        """The run of the grid with the lowest validation figure of its training."""
        from hf_paretokd import Run

        grid = [self.runs / f"grid-{system}-{rate}-{dropout}" for rate, dropout in GRID]
        return min(grid, key=lambda run: Run(run).training["validation_loss"].value)

    def chosen(self, system: str) -> list[str]:
        """The words of the best point of the grid."""
        rate, dropout = self.best(system).name.removeprefix(f"grid-{system}-").rsplit("-", 1)
        return [f"--learning_rate={rate}", f"--model.dropout={dropout}"]


def plain(depth: str) -> list[str]:
    """A model trained alone."""
    return ["--method=plain", *DEPTHS[depth]]


def jobs() -> list[Job]:
    """All work, in the order of the protocol."""
    systems = {"plain-6-6": plain("6-6"), "plain-2-2": plain("2-2"), "aio": []}
    grid = {system: tuple(f"grid-{system}-{rate}-{dropout}" for rate, dropout in GRID) for system in systems}
    found = [
        Job(f"grid-{system}-{rate}-{dropout}", lambda _, w=words, r=rate, d=dropout: point(w, r, d))
        for system, words in systems.items()
        for rate, dropout in GRID
    ]

    def add(name: str, like: str, words: list[str], seed: int = 1, after: tuple[str, ...] = ()) -> None:
        more = [*words, f"--seed={seed}"]
        found.append(Job(f"{name}-{seed}", lambda study: [*more, *study.chosen(like)], (*grid[like], *after)))

    def add_best(system: str) -> None:
        found.append(Job(f"{system}-1", lambda study: ["score", str(study.best(system))], grid[system]))

    add_best("plain-6-6")
    add_best("plain-2-2")
    add_best("aio")
    add("plain-6-2", "plain-6-6", plain("6-2"))
    add("r-drop-6-6", "plain-6-6", [*plain("6-6"), "--consistency=r_drop"])
    add("r-drop-2-2", "plain-2-2", [*plain("2-2"), "--consistency=r_drop"])
    add("two-views", "aio", ["--views=two"])
    for seed in (2, 3):
        add("aio", "aio", [], seed)
        add("plain-6-6", "plain-6-6", plain("6-6"), seed)
        add("plain-6-2", "plain-6-6", plain("6-2"), seed)
        add("plain-2-2", "plain-2-2", plain("2-2"), seed)
        add("two-views", "aio", ["--views=two"], seed)
        if seed == 2:
            add("r-drop-6-6", "plain-6-6", [*plain("6-6"), "--consistency=r_drop"], seed)
            add("first", "aio", FIRST)
            add("paper", "aio", ["--preset=paper"])
            for depth, like in (("2-2", "plain-2-2"), ("6-2", "plain-6-6")):
                teacher = ["--method=word_kd", "--teachers=runs/plain-6-6-1", *DEPTHS[depth]]
                add(f"word-kd-{depth}", like, teacher, after=("plain-6-6-1",))
            found.append(Job("distilled", lambda _: ["distill", "runs/plain-6-6-1"], ("plain-6-6-1",)))
            distilled = ["--data.distilled_dir=distilled"]
            add("seq-kd-2-2", "plain-2-2", [*plain("2-2"), *distilled], after=("distilled",))
            add("aio-seq-kd", "aio", distilled, after=("distilled",))
    for name, like, words in (
        ("long-aio", "aio", []),
        *((f"long-plain-{depth}", "plain-2-2" if depth == "2-2" else "plain-6-6", plain(depth)) for depth in DEPTHS),
    ):
        add(name, like, [*words, "--max_steps=3200", "--warmup_steps=320"])
    return found


def point(words: list[str], rate: str, dropout: str) -> list[str]:
    """A training of the grid, whose test text is not looked at."""
    return [*words, f"--learning_rate={rate}", f"--model.dropout={dropout}", "--evaluation.splits=[]"]


# ---- one job, in a process of its own


def work(folder: Path, name: str, words: list[str], fields: list[str]) -> None:
    """Does a job in `folder`."""
    from hf_paretokd.runs.distill import distill

    os.chdir(folder)
    if words[0] == "distill":
        distill(words[1], "distilled")
    elif words[0] == "score":
        run = Path("runs") / name
        if not run.exists():
            shutil.copytree(words[1], run, copy_function=os.link)
        score(run)
    else:
        train(Path("runs") / name, [*words, *fields])
        if not name.startswith("grid-"):
            score(Path("runs") / name)


def train(folder: Path, words: list[str]) -> None:
    """Trains, and writes the models and what the training took."""
    from hf_paretokd.layout import RunLayout
    from hf_paretokd.evaluation.results import write_results
    from hf_paretokd.runs.prepare import keep_models, prepare
    from hf_paretokd.runs.recipe import load_recipe
    from hf_paretokd.runs.score import training_rows

    layout = RunLayout(folder)
    if layout.results.exists():
        return
    resume = layout.recipe.exists()
    recipe = load_recipe(RECIPE, [f"--output_dir={folder}", *words])
    prepared = prepare(recipe, resume)
    try:
        trainer = prepared.trainer()
        trainer.train(resume_from_checkpoint=resume)
        run = keep_models(recipe, trainer)
        write_results(training_rows(trainer), run.layout.results)
        shutil.rmtree(layout.checkpoints, ignore_errors=True)
    finally:
        prepared.start.release()


def score(folder: Path) -> None:
    """Scores a run greedily, and a copy of it by beam 5."""
    from hf_paretokd.layout import RunLayout
    from hf_paretokd.runs.recipe import load_recipe
    from hf_paretokd.runs.run import Run
    from hf_paretokd.runs.score import keep_scores, score_run

    beam = Path("beam5") / folder.name
    if not beam.exists():
        shutil.copytree(folder, beam, copy_function=os.link)
    for place, beams in ((folder, 1), (beam, 5)):
        recipe = load_recipe(RunLayout(place).recipe, ["--evaluation.splits=test", f"--evaluation.num_beams={beams}"], False)
        run = Run(place, recipe)
        if any(row.split == "test" and (row.decoding or "").startswith("beam" if beams > 1 else "greedy") for row in run.rows):
            continue
        recipe.save(run.layout.recipe)
        keep_scores(run, score_run(run), [row for row in run.rows if row.split == "train"])


# ---- all jobs


def main() -> None:
    """Runs what can be run, in its order, as many jobs at a time as are allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)  # name and words of a job, for a process of its own
    options, fields = parser.parse_known_args()
    if options.one:
        work(options.output, *options.one, fields)
        return
    start, study = time.monotonic(), Study(options.output.resolve())
    study.runs.mkdir(parents=True, exist_ok=True)
    (study.folder / "logs").mkdir(exist_ok=True)
    write_text(options.text, study.folder / "text", options.pairs)
    depths = "--evaluation.depths=[6-6, 6-2, 2-2]"
    fields = ["--data.data_dir=text", "--data.train=first", depths, "--save_total_limit=1", "--disable_tqdm=true", *fields]
    waiting, done, running = jobs(), set(), {}
    lock = threading.Condition()

    def begin(job: Job) -> None:
        one = json.dumps([job.name, job.words(study)])
        command = [sys.executable, __file__, str(options.text), str(study.folder), "--one", one, *fields]
        log = (study.folder / "logs" / f"{job.name}.txt").open("a")
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        running[job.name] = process
        threading.Thread(target=wait, args=(job, process), daemon=True).start()

    def wait(job: Job, process: subprocess.Popen) -> None:
        code = process.wait()
        with lock:
            del running[job.name]
            if code == 0:
                done.add(job.name)
            print(f"{time.monotonic() - start:5.0f} s  {job.name}: {'done' if code == 0 else f'failed ({code})'}", flush=True)
            lock.notify()

    with lock:
        while waiting or running:
            late = time.monotonic() - start > options.seconds
            ready = [job for job in waiting if set(job.after) <= done]
            if ready and len(running) < options.jobs and not late:
                waiting.remove(ready[0])
                begin(ready[0])
            elif running and not late:
                lock.wait(timeout=1)
            else:
                break
        for process in running.values():
            process.terminate()
    pack(study.folder)


def write_text(source: Path, folder: Path, pairs: int) -> None:
    """The first pairs of the training text, and the other splits as they are."""
    folder.mkdir(exist_ok=True)
    for side in ("de", "en"):
        with gzip.open(source / f"train.{side}.gz", "rb") as file:
            (folder / f"first.{side}").write_bytes(b"".join(line for _, line in zip(range(pairs), file, strict=False)))
        for split in ("val", "test_2016_flickr"):
            shutil.copy(source / f"{split}.{side}.gz", folder)


def pack(folder: Path) -> None:
    """What is quoted of all runs."""
    with tarfile.open(folder / "results.tgz", "w:gz") as archive:
        for run in sorted((*folder.glob("runs/*"), *folder.glob("beam5/*"))):
            for name in KEPT:
                if (run / name).exists():
                    archive.add(run / name, arcname=f"{run.parent.name}/{run.name}/{name}")
        for path in (*folder.glob("logs/*"), *folder.glob("distilled/distilled.json")):
            archive.add(path, arcname=str(path.relative_to(folder)))


if __name__ == "__main__":
    main()
