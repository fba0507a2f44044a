"""Many trainings side by side, in an order, resumed where they were cut off: what the studies in this folder share.

python docs/results/study.py OUTPUT NAME     adds what the runs of a study have come to to docs/results/NAME.json
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

RECIPES = Path(__file__).parent.parent.parent / "recipes"
KEPT = ("recipe.yaml", "results.json", "comparisons.json", "trainer_state.json", "distilled.json", "translations")


@dataclass(frozen=True)
class Job:
    """One piece of work in the study's folder.

    Args:
        name: of its run.
        words: of a training after its recipe; or `score RUN`, to score a run that was only trained; or `distill RUN`. They are
            asked for when the jobs that it comes after are done.
        after: names of jobs.
        scored: whether its test text is looked at.
    """

    name: str
    words: Callable[[], list[str]]
    after: tuple[str, ...] = ()
    scored: bool = True


class Study:
    """The jobs of a study and its folder: `runs/`, the same scored by beam 5 in `beam5/`, `logs/`, `results.tgz`."""

    def __init__(self, script: str, recipe: str, description: str) -> None:
        self.script, self.recipe = script, RECIPES / f"{recipe}.yaml"
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("text", type=Path, help="folder with the text")
        parser.add_argument("output", type=Path)
        parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
        parser.add_argument("--seconds", type=float, default=1e9, help="after which all are stopped, to be resumed")
        parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)  # a job, for a process of its own
        self.options, self.fields = parser.parse_known_args()  # fields go to every training
        self.folder = self.options.output.resolve()
        self.runs = self.folder / "runs"

    def best(self, names: Sequence[str]) -> Path:
        """The run with the lowest validation figure."""
        from hf_paretokd import Run

        return min((self.runs / name for name in names), key=lambda run: Run(run).training["validation_loss"].value)

    def run(self, jobs: Sequence[Job]) -> None:
        """Does what can be done, in its order, as many jobs at a time as are allowed; or the one that this process is for."""
        if self.options.one:
            self.work(*self.options.one)
            return
        for folder in (self.runs, self.folder / "logs", self.folder / "done"):
            folder.mkdir(parents=True, exist_ok=True)
        start, done = time.monotonic(), {path.stem for path in self.folder.glob("done/*.txt")}
        waiting = [job for job in jobs if job.name not in done]
        running: dict[str, subprocess.Popen] = {}
        changed = threading.Condition()

        def wait(job: Job, process: subprocess.Popen) -> None:
            code = process.wait()
            with changed:
                del running[job.name]
                if code == 0:
                    done.add(job.name)
                    (self.folder / "done" / f"{job.name}.txt").touch()
                print(
                    f"{time.monotonic() - start:5.0f} s  {job.name}: {'done' if code == 0 else f'ended by {code}'}", flush=True
                )
                changed.notify()

        with changed:
            while (waiting or running) and time.monotonic() - start < self.options.seconds:
                job = next((job for job in waiting if set(job.after) <= done), None)
                if job and len(running) < self.options.jobs:
                    waiting.remove(job)
                    running[job.name] = self.begin(job)
                    threading.Thread(target=wait, args=(job, running[job.name]), daemon=True).start()
                elif running:
                    changed.wait(timeout=1)
                else:
                    break
            stopped = list(running.values())
            for process in stopped:
                process.terminate()
        for process in stopped:
            process.wait()
        self.pack()

    def begin(self, job: Job) -> subprocess.Popen:
        """Starts a job in a process of its own."""
        one = json.dumps([job.name, job.words(), job.scored])
        command = [sys.executable, self.script, str(self.options.text), str(self.folder), "--one", one, *self.fields]
        log = (self.folder / "logs" / f"{job.name}.txt").open("a")
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def work(self, name: str, words: Sequence[str], scored: bool) -> None:
        """Does one job; what it has done already is left as it is."""
        from hf_paretokd.runs.distill import distill

        os.chdir(self.folder)
        run = Path("runs") / name
        if words[0] == "distill":
            if not Path(name, "distilled.json").exists():
                distill(words[1], name)
            return
        if words[0] != "score":
            train(self.recipe, run, [*words, *self.fields])
        elif not run.exists():
            shutil.copytree(words[1], run, copy_function=os.link)
        if scored:
            score(run)

    def pack(self) -> None:
        """Puts together what is quoted of all runs."""
        with tarfile.open(self.folder / "results.tgz", "w:gz") as archive:
            for run in sorted((*self.folder.glob("runs/*"), *self.folder.glob("beam5/*"))):
                for name in KEPT:
                    if (run / name).exists():
                        archive.add(run / name, arcname=f"{run.parent.name}/{run.name}/{name}")
            for path in self.folder.glob("logs/*"):
                archive.add(path, arcname=f"logs/{path.name}")


def train(recipe: Path, folder: Path, words: Sequence[str]) -> None:
    """Trains, and writes the models and what the training took."""
    from hf_paretokd.evaluation.results import write_results
    from hf_paretokd.layout import RunLayout
    from hf_paretokd.runs.prepare import keep_models, prepare
    from hf_paretokd.runs.recipe import load_recipe
    from hf_paretokd.runs.score import training_rows

    layout = RunLayout(folder)
    if layout.results.exists():
        return
    resume = layout.recipe.exists()
    loaded = load_recipe(recipe, ["--save_total_limit=1", "--disable_tqdm=true", *words, f"--output_dir={folder}"])
    prepared = prepare(loaded, resume)
    try:
        trainer = prepared.trainer()
        trainer.train(resume_from_checkpoint=resume)
        run = keep_models(loaded, trainer)
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
        run, decoding = Run(place, recipe), "greedy" if beams == 1 else f"beam {beams}"
        if any(row.split == "test" and row.decoding == decoding for row in run.rows):
            continue
        recipe.save(run.layout.recipe)
        keep_scores(run, score_run(run), [row for row in run.rows if row.split == "train"])


def collect(folder: Path, name: str) -> None:
    """Adds the rows of all runs that there are to `NAME.json` here: by run, greedy and by beam 5."""
    path = Path(__file__).parent / f"{name}.json"
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for results in sorted(folder.glob("runs/*/results.json")):
        run, beam = results.parent.name, folder / "beam5" / results.parent.name / "results.json"
        rows = json.loads(results.read_text("utf-8"))
        if beam.exists():
            rows += [row for row in json.loads(beam.read_text("utf-8")) if (row["decoding"] or "").startswith("beam")]
        known[run] = [{key: value for key, value in row.items() if value is not None} for row in rows]
    lines = (f" {json.dumps(run)}: {json.dumps(rows, ensure_ascii=False)}" for run, rows in sorted(known.items()))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    collect(Path(sys.argv[1]), sys.argv[2])
