"""Many trainings side by side, in an order, resumed where they were cut off: what the studies in this folder share.

What a job has come to is added to NAME.json beside this file when it ends, its validations to NAME-curves.json, scores of
resampled sentences to NAME.npz: a job whose rows are there is not done again, on another machine neither, unless a job to come
needs its model.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RECIPES = Path(__file__).parent.parent.parent / "recipes"


@dataclass(frozen=True)
class Job:
    """One piece of work in the study's folder.

    Args:
        name: of its run.
        words: of a training after its recipe; or `score RUN`, to score a run that was only trained; or `distill RUN`. They are
            asked for when the jobs that it comes after are done.
        after: names of jobs whose figures it needs.
        scored: whether its test text is looked at.
        models: those of them whose models it needs, not only their figures.
    """

    name: str
    words: Callable[[], list[str]]
    after: tuple[str, ...] = ()
    scored: bool = True
    models: tuple[str, ...] = ()


class Study:
    """The jobs of a study and its folder: `runs/`, the same scored by beam 5 in `beam5/`, `logs/`."""

    def __init__(self, script: str, recipe: str, description: str) -> None:
        self.script, self.recipe = script, RECIPES / f"{recipe}.yaml"
        self.figures = Path(script).with_suffix(".json")
        self.curves = self.figures.with_stem(f"{self.figures.stem}-curves")
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("text", type=Path, help="folder with the text")
        parser.add_argument("output", type=Path)
        parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
        parser.add_argument("--seconds", type=float, default=1e9, help="after which all are stopped, to be resumed")
        parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)  # a job, for a process of its own
        self.options, self.fields = parser.parse_known_args()  # fields go to every training
        self.folder = self.options.output.resolve()
        self.runs = self.folder / "runs"

    def known(self) -> dict[str, list[dict]]:
        """Rows of every run whose figures are kept."""
        return kept(self.figures)

    def best(self, names: Sequence[str]) -> str:
        """The run with the lowest validation figure."""
        known = self.known()
        return min(names, key=lambda name: next(row["value"] for row in known[name] if row["metric"] == "validation_loss"))

    def again(self, run: str, words: list[str]) -> list[str]:
        """Words of a job that scores a run which was only trained; where its model is not at hand, it is trained once more."""
        return ["score", f"runs/{run}"] if (self.runs / run / "results.json").exists() else words

    def run(self, jobs: Sequence[Job]) -> None:
        """Does what can be done, in its order, as many jobs at a time as are allowed; or the one that this process is for."""
        if self.options.one:
            self.work(*self.options.one)
            return
        for folder in (self.runs, self.folder / "logs", self.folder / "done"):
            folder.mkdir(parents=True, exist_ok=True)
        here = {path.stem for path in self.folder.glob("done/*.txt")}
        start, done = time.monotonic(), here | set(self.known())
        for job in reversed(jobs):  # what needs a model comes after it
            if job.name not in done:
                done -= set(job.models) - here
        waiting = [job for job in jobs if job.name not in done]
        running: dict[str, subprocess.Popen] = {}
        changed = threading.Condition()

        def wait(job: Job, process: subprocess.Popen) -> None:
            code = process.wait()
            with changed:
                del running[job.name]
                if code == 0:
                    self.keep(job.name)
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

    def keep(self, name: str) -> None:
        """Adds what a run has come to: rows, greedy and by beam 5; validations; greedy BLEU of resampled sentences."""
        run, beam = self.runs / name, self.folder / "beam5" / name / "results.json"
        if not (run / "results.json").exists():
            return
        rows = json.loads((run / "results.json").read_text("utf-8"))
        if beam.exists():
            rows += [row for row in json.loads(beam.read_text("utf-8")) if (row["decoding"] or "").startswith("beam")]
        add(self.figures, name, [{key: value for key, value in row.items() if value is not None} for row in rows])
        state = run / "trainer_state.json"
        if state.exists():
            log = json.loads(state.read_text("utf-8"))["log_history"]
            validations = [
                {key: round(value, 4) for key, value in line.items() if key == "step" or "eval" in key} for line in log
            ]
            add(self.curves, name, [line for line in validations if len(line) > 1])
        scores = resampled_means(run)
        if scores:
            path = self.figures.with_suffix(".npz")
            before = dict(np.load(path)) if path.exists() else {}
            np.savez_compressed(path, **{**before, **{f"{name}/{key}": value for key, value in scores.items()}})


def kept(path: Path) -> dict[str, list[dict]]:
    """What a file holds of every run."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def add(path: Path, run: str, lines: list[dict]) -> None:
    """Adds a run to such a file, or writes it anew there, one run a line."""
    found = {**kept(path), run: lines}
    text = ",\n".join(f" {json.dumps(name)}: {json.dumps(found[name], ensure_ascii=False)}" for name in sorted(found))
    path.write_text("{\n" + text + "\n}\n", "utf-8")


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


def resampled_means(folder: Path) -> dict[str, np.ndarray]:
    """BLEU of the test text and of its resamples by model and group of pairs: the mean over pairs [1 + RESAMPLES]."""
    from hf_paretokd import Run
    from hf_paretokd.data.pairs import LanguagePair
    from hf_paretokd.evaluation.bootstrap import joint_draws, mean, resampled
    from hf_paretokd.evaluation.translations import read_translations
    from hf_paretokd.layout import REFERENCE, SOURCE

    run = Run(folder)
    pairs, high = run.recipe.data.pairs, run.recipe.evaluation.high_resource
    texts = {str(pair): read_translations(run.layout.translations, "test", str(pair)) for pair in pairs}
    texts = {pair: lines for pair, lines in texts.items() if lines}
    counts = joint_draws({pair: (lines[SOURCE], lines[REFERENCE]) for pair, lines in texts.items()})
    found: dict[str, dict[str, np.ndarray]] = {}
    for pair, lines in texts.items():
        target = LanguagePair.parse(pair).target
        for name in set(lines) - {SOURCE, REFERENCE}:
            scores = resampled(lines[name], lines[REFERENCE], target, "bleu", counts[pair])
            found.setdefault(name, {})[pair] = scores.astype(np.float32)
    means = {}
    for name, scores in found.items():
        groups = {"all": list(scores), "high": [pair for pair in scores if pair in high]}
        groups["low"] = [pair for pair in scores if pair not in high]
        means |= {f"{name}/{group}": mean([scores[pair] for pair in members]) for group, members in groups.items() if members}
    return means
