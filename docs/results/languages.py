"""Trains and scores the systems of docs/results.md on eight languages; goes on where it was cut off.

python docs/results/languages.py FOLDER_WITH_THE_TEXT OUTPUT [--jobs 1] [--seconds N] [--field value …]
"""

import json
from collections.abc import Callable, Mapping
from functools import partial

from study import Job, Study

SIZES = {"fr": 8000, "mr": 5000, "el": 2200, "mk": 1600, "bg": 1200, "sh": 900, "hi": 600, "ko": 400}  # training pairs
TEMPERATURES = (1, 2, 5)
GRID = [(tau, dropout) for tau in TEMPERATURES for dropout in ("0.2", "0.3")]
UPDATES = 3600
SMALLER = {"3-2": ["--model.decoder_layers=2"], "2-2": ["--model.encoder_layers=2", "--model.decoder_layers=2"]}


def text(study: Study, out: bool = False, sizes: Mapping[str, int] = SIZES) -> list[str]:
    """The pairs into English, or out of it."""
    pairs = {f"en-{language}" if out else f"{language}-en": size for language, size in sizes.items()}
    high = json.dumps(list(pairs)[:2])
    words = [f"--data.pairs={json.dumps(list(pairs))}", f"--data.max_sentence_pairs={json.dumps(pairs)}"]
    return [*words, f"--data.data_dir={study.options.text.resolve()}", f"--evaluation.high_resource={high}"]


def shape(study: Study, out: bool = False) -> list[str]:
    """What all trainings share."""
    length = [f"--max_steps={UPDATES}", "--warmup_steps=360", "--eval_steps=300", "--evaluation.splits=[]"]
    return [*text(study, out), *length, "--pareto_mutual.update_interval=300", "--pareto_all_in_one.update_interval=300"]


def jobs(study: Study) -> list[Job]:
    """All work, in the order of the protocol."""
    common = shape(study)
    grid = tuple(f"grid-{tau}-{dropout}" for tau, dropout in GRID)
    found, points = [], {}
    for name, (tau, dropout) in zip(grid, GRID, strict=True):
        point = [*common, "--method=plain", f"--temperatures={tau}", f"--model.dropout={dropout}"]
        points[name] = point
        found.append(Job(name, partial(list, point), scored=False))

    def chosen(words: list[str], tempered: bool, out: bool) -> list[str]:
        tau, dropout = GRID[grid.index(study.best(grid))]
        return [*shape(study, out), f"--model.dropout={dropout}", *([f"--temperatures={tau}"] if tempered else []), *words]

    def add(
        name: str, *words: str, seed: int = 1, tempered: bool = True, out: bool = False, models: tuple[str, ...] = ()
    ) -> None:
        given = [*words, f"--seed={seed}"]
        found.append(Job(f"{name}-{seed}", partial(chosen, given, tempered, out), (*grid, *models), models=models))

    def peers(seed: int) -> None:
        add("uni", "--strategy=uni", seed=seed, tempered=False)
        add("bi", "--strategy=bi", seed=seed, tempered=False)
        student("of-peers", seed, f"uni-{seed}", f"bi-{seed}")

    def milder(seed: int) -> None:
        add("mild", "--strategy=uni", "--temperatures=[1, 2]", seed=seed, tempered=False)
        student("of-mild", seed, f"mild-{seed}")

    def student(name: str, seed: int, *peers: str) -> None:
        words = partial(taught, study, chosen, peers, seed)
        found.append(Job(f"{name}-{seed}", words, (*grid, *peers), models=peers))

    def depths(seed: int) -> None:
        add("both", "--method=pareto_all_in_one", "--strategy=uni", "--temperatures=[1, 5]", seed=seed, tempered=False)
        for depth, words in SMALLER.items():
            add(f"plain-{depth}", "--method=plain", *words, seed=seed)

    plain = ["--method=plain", "--seed=1"]
    found.append(Job("plain-1", lambda: study.again(study.best(grid), chosen(plain, True, False)), grid))
    for tau in TEMPERATURES:  # for the picture of large against small languages
        found.append(Job(f"tau-{tau}-1", partial(scored_again, study, tau, points), grid))
    peers(1)
    # the other systems of the paper's tables, those first that need the plain model
    one, every = ("plain-1",), ("--sampler_interval=300",)
    add("ibr", "--method=plain", "--samplers=chi_ibr", *every, "--sampler_baseline=runs/plain-1", models=one)
    teachers = {
        f"{language}-en": Job(f"of-{language}", partial(alone, study, language), one, scored=False, models=one)
        for language in SIZES
    }
    taught_by = json.dumps({pair: f"runs/{job.name}" for pair, job in teachers.items()})
    found.extend(teachers.values())
    words = ["--method=multi_distill", f"--teachers={taught_by}", "--update_interval=300"]
    add("multi-distill", *words, models=tuple(job.name for job in teachers.values()))
    add("uat", "--method=plain", "--samplers=multi_uat", *every)
    add("cutoff", "--method=plain", "--consistency=cutoff")
    add("of-plain", "--method=word_kd", "--teachers=runs/plain-1", models=one)
    milder(1)
    add("r-drop", "--method=plain", "--consistency=r_drop")
    add("unimax", "--method=plain", "--unimax_epochs=72", "--temperatures=1", tempered=False)
    add("plain", "--method=plain", seed=2)
    milder(2)
    peers(2)
    depths(1)
    add("auto", "--strategy=auto", tempered=False)
    add("lssd", "--method=lssd")
    depths(2)
    add("out-plain", "--method=plain", out=True)
    add("out-uni", "--strategy=uni", tempered=False, out=True)
    long = (f"--max_steps={3 * UPDATES}", "--warmup_steps=1080", "--eval_steps=900")
    add("long-plain", "--method=plain", *long)
    for strategy in ("uni", "bi"):
        add(f"long-{strategy}", f"--strategy={strategy}", *long, tempered=False)
    return found


def scored_again(study: Study, tau: int, points: Mapping[str, list[str]]) -> list[str]:
    """The plain model of a temperature, with the dropout that validates better."""
    best = study.best([name for name in points if name.startswith(f"grid-{tau}-")])
    return study.again(best, points[best])


def taught(study: Study, chosen: Callable[..., list[str]], peers: tuple[str, ...], seed: int) -> list[str]:
    """The student of the better peer on every pair, of the strategy that validates better."""
    best = study.best(peers)
    return chosen(["--method=word_kd", f"--teachers=runs/{best}", f"--seed={seed}"], True, False)


def alone(study: Study, language: str) -> list[str]:
    """A model of one pair with the vocabulary of all, for as many passes as all pairs together have, or 600 updates."""
    updates = max(600, round(UPDATES * SIZES[language] / sum(SIZES.values())))
    words = [*text(study, sizes={language: SIZES[language]}), "--tokenizer.from_pretrained=runs/plain-1/tokenizer"]
    return [
        *words,
        "--method=plain",
        f"--max_steps={updates}",
        "--warmup_steps=60",
        "--eval_steps=100",
        "--evaluation.splits=[]",
    ]


if __name__ == "__main__":
    study = Study(__file__, "tatoeba8-m2o", __doc__)
    study.run(jobs(study))
