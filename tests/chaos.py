"""Kills trainings, faults their saves, resumes them, and compares with unbroken ones: `python tests/chaos.py`, or `make chaos`.

Every training is a process of its own, killed by SIGKILL at a place drawn from the seed: after an update, at a write of a
save, in a trial of an AUTO search, at the border of the stages. The process notes in its trace what it was doing when it
was killed; a kill counts only if the trace shows at least one finished update before it. Saves are faulted in this
process: by a limit on the size of files, by cutting, changing or deleting what was written.
"""

import argparse
import hashlib
import json
import logging as python_logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
from tqdm import tqdm
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BartConfig, BartForConditionalGeneration, TrainerCallback

from hf_paretokd import (
    AllInOneConfig,
    AllInOneTrainer,
    LSSDConfig,
    LSSDTrainer,
    ModelConfig,
    ParetoAllInOneConfig,
    ParetoAllInOneTrainer,
    ParetoMutualConfig,
    ParetoMutualTrainer,
    PlainConfig,
    PlainTrainer,
    WordKDConfig,
    WordKDTrainer,
    build_model,
    encode_split,
    train_tokenizer,
)
from hf_paretokd.data.corpus import DataConfig, load_text
from hf_paretokd.data.demo_corpus import write_demo_corpus
from hf_paretokd.errors import ParetoKDError, TrainingError
from hf_paretokd.methods.weighting.trials import PeerTrials
from hf_paretokd.models.files import save_model
from hf_paretokd.training.callbacks import COUNTED
from hf_paretokd.training.checkpointing import CheckpointedTrainer
from hf_paretokd.utils.files import damage

SHAPE = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 96,
    "dropout": 0.1,
}
COMMON = {
    "max_tokens": 300,
    "gradient_accumulation_steps": 2,
    "warmup_steps": 2,
    "learning_rate": 3e-3,
    "logging_steps": 3,
    "save_total_limit": 2,
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "seed": 7,
}
BORDER = 5
METHODS = {
    "plain": (PlainTrainer, PlainConfig, {"max_steps": 9, "eval_steps": 2}),
    "all_in_one": (
        AllInOneTrainer,
        AllInOneConfig,
        {"max_steps": 10, "eval_steps": 2, "mutual_start": BORDER / 10, "detach_threshold": 1.001},
    ),
    "uni": (
        ParetoMutualTrainer,
        ParetoMutualConfig,
        {"max_steps": 8, "eval_steps": 2, "strategy": "uni", "update_interval": 2},
    ),
    "auto": (
        ParetoMutualTrainer,
        ParetoMutualConfig,
        {"max_steps": 8, "eval_steps": 2, "strategy": "auto", "update_interval": 3, "trial_share": 0.04},
    ),
}
METHODS |= {
    "two_views": (AllInOneTrainer, AllInOneConfig, {"max_steps": 8, "eval_steps": 2, "views": "two", "ema_decay": 0.8}),
    "word_kd": (
        WordKDTrainer,
        WordKDConfig,
        {"max_steps": 8, "eval_steps": 2, "teachers": ["teacher"], "selection": "queue", "queue_size": 400},
    ),
    "sampled": (PlainTrainer, PlainConfig, {"max_steps": 9, "eval_steps": 2, "samplers": ["multi_dds"], "sampler_interval": 2}),
    "lssd": (LSSDTrainer, LSSDConfig, {"max_steps": 9, "eval_steps": 2, "update_interval": 1, "learning_rate": 0.02}),
    "both": (
        ParetoAllInOneTrainer,
        ParetoAllInOneConfig,
        {"max_steps": 7, "eval_steps": 2, "strategy": "uni", "update_interval": 2},
    ),
}
PLACES = {"update": tuple(METHODS), "save": tuple(METHODS)} | {
    "search": ("auto",),
    "border": ("all_in_one",),
}


def prepare(folder: Path) -> None:
    """Real text, a tokenizer, token ids and new models, all as files."""
    write_demo_corpus(folder / "text", {"fr": 600, "bs": 200}, {"validation": 20, "test": 20})
    config = DataConfig(pairs=["fr-en", "bs-en"], data_dir=str(folder / "text"))
    texts = {split: load_text(config, split) for split in ("train", "validation")}
    tokenizer = train_tokenizer(texts["train"], folder / "tokenizer", vocab_size=700, target_tags="always", max_length=96)
    for split, text in texts.items():
        encode_split(text, tokenizer).save_to_disk(str(folder / split))
    for peer in range(2):
        build_model(ModelConfig(**SHAPE), tokenizer, seed=peer).save_pretrained(folder / f"model-{peer}")
    for seed, name in ((8, "other-teacher"), (9, "teacher")):
        save_model(build_model(ModelConfig(**SHAPE), tokenizer, seed), tokenizer, folder / name)


def new_trainer(
    folder: Path,
    method: str,
    output: Path,
    workers: int = 0,
    callbacks: tuple = (),
    changes: dict[str, object] | None = None,
    models: dict[int, str] | None = None,
    tokenizer: str = "tokenizer",
    train: str = "train",
    validation: str = "validation",
) -> CheckpointedTrainer:
    """A trainer as it is at the start of every training, but for `changes` of its arguments and files of other names."""
    trainer_class, config_class, fields = METHODS[method]
    own = {"output_dir": str(output), "dataloader_num_workers": workers}
    if "teachers" in fields:
        own["teachers"] = [str(folder / name) for name in fields["teachers"]]
    config = config_class(**{**COMMON, **fields, **own, **(changes or {})})
    names = [(models or {}).get(peer, f"model-{peer}") for peer in range(len(config.temperatures))]
    loaded = [AutoModelForSeq2SeqLM.from_pretrained(folder / name) for name in names]
    return trainer_class(
        loaded if len(loaded) > 1 else loaded[0],
        config,
        train_dataset=datasets.load_from_disk(str(folder / train)),
        eval_dataset=datasets.load_from_disk(str(folder / validation)),
        processing_class=AutoTokenizer.from_pretrained(folder / tokenizer),
        callbacks=list(callbacks),
    )


# ---- The process that is killed -----------------------------------------------------------------------------------


class Trace(TrainerCallback):
    """Notes what a training does, and kills it at a planned place."""

    def __init__(self, path: Path, place: str | None, number: int) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.place, self.left = place, number
        self.saving = False

    def note(self, line: str) -> None:
        """One line, which a kill cannot take back."""
        os.write(self.file, f"{line}\n".encode())

    def reached(self, place: str, what: str) -> None:
        """Kills this process if this is the planned place."""
        if place == self.place:
            self.left -= 1
            if self.left < 0:
                self.note(f"killed: {place}: {what}")
                os.kill(os.getpid(), signal.SIGKILL)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """An update is finished."""
        self.note(f"update {state.global_step}")
        self.reached("update", f"after update {state.global_step}")

    def watch(self, owner: type, name: str, place: str) -> None:
        """Has a method of a class reach `place` before and after every call."""
        method = getattr(owner, name)

        def watched(*args, **kwargs):
            self.reached(place, f"before {name}")
            result = method(*args, **kwargs)
            self.reached(place, f"after {name}")
            return result

        setattr(owner, name, watched)

    def watch_saves(self) -> None:
        """Has every file opened for writing, flush and renaming of a save reach `save`."""
        save, flush = CheckpointedTrainer._save_checkpoint, os.fsync

        def saving(*args, **kwargs):
            self.saving = True
            try:
                save(*args, **kwargs)
            finally:
                self.saving = False

        def flushing(handle):
            self.reached("save", "at a flush") if self.saving else None
            flush(handle)

        def audit(event, arguments):
            if self.saving and event in ("os.rename", "shutil.rmtree"):
                self.reached("save", f"at {event} of {Path(str(arguments[0])).name}")
            elif self.saving and event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]:
                self.reached("save", f"at the opening of {Path(str(arguments[0])).name}")

        CheckpointedTrainer._save_checkpoint, os.fsync = saving, flushing
        for owner in (torch, sys.modules["transformers.modeling_utils"]):
            name = "save" if owner is torch else "safe_save_file"
            self.watch_file(owner, name)
        sys.addaudithook(audit)

    def watch_file(self, owner, name: str) -> None:
        """A file written by compiled code: killed before it, or with half of it on disk."""
        write = getattr(owner, name)

        def writing(value, path, *args, **kwargs):
            if not self.saving:
                return write(value, path, *args, **kwargs)
            self.reached("save", f"before {Path(path).name}")
            result = write(value, path, *args, **kwargs)
            if self.place == "save" and self.left == 0:
                os.truncate(path, Path(path).stat().st_size // 2)
            self.reached("save", f"in the middle of {Path(path).name}")
            return result

        setattr(owner, name, writing)


def training(folder: Path, method: str, output: Path, place: str | None, number: int, workers: int) -> None:
    """Trains to the end or to the planned kill; goes on from what is there."""
    torch.set_num_threads(1)
    python_logging.disable(python_logging.WARNING)
    output.mkdir(parents=True, exist_ok=True)
    log = os.open(output / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    trace = Trace(output / "trace", place, number)
    trace.note(f"start: {method}, {workers} loader workers")
    trace.watch_saves()
    trace.watch(PeerTrials, "update", "search")
    trace.watch(AllInOneTrainer, "begin_stage_two", "border")
    trace.watch(AllInOneTrainer, "load_best", "border")
    trainer = new_trainer(folder, method, output, workers, (trace,))
    trainer.train(resume_from_checkpoint=True)
    (output / "end.json").write_text(json.dumps(fingerprint(trainer)), "utf-8")
    trace.note("end")


def fingerprint(trainer: CheckpointedTrainer) -> dict[str, object]:
    """Everything that must come out equal: weights of every model, Adam's state, the log without times, the best."""
    weights = {name: digest(model.state_dict()) for name, model in trainer.model.named_models()}
    times = (
        "seconds",
        "core_seconds",
        "loader_wait",
        "train_runtime",
        "train_samples_per_second",
        "train_steps_per_second",
        "train_loss",
    )
    times += COUNTED
    log = [{key: value for key, value in line.items() if key not in times} for line in trainer.state.log_history]
    best = (trainer.state.best_metric, trainer.state.best_global_step)
    rule = getattr(trainer, "rule", None)
    history = [{k: v for k, v in each.items() if k != "seconds"} for each in rule.history] if rule else []
    return {"weights": weights, "log": [line for line in log if len(line) > 2], "best": best, "weights of pairs": history}


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of tensors."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].contiguous().numpy().tobytes())
    return found.hexdigest()


# ---- The driver ---------------------------------------------------------------------------------------------------


class Chaos:
    """Runs trainings in processes of their own and counts what happened."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.context = multiprocessing.get_context("forkserver")  # imports everything once, and not this process's threads
        self.context.set_forkserver_preload(["chaos"])
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # where it finds this file
        self.kills: Counter[str] = Counter()
        self.problems: list[str] = []
        self.expected: dict[str, dict] = {}
        self.runs = 0

    def process(self, method: str, output: Path, place: str | None, number: int, workers: int) -> int:
        """Exit code of one training."""
        child = self.context.Process(target=training, args=(self.folder, method, output, place, number, workers))
        child.start()
        child.join(300)
        return child.exitcode

    def unbroken(self, method: str) -> None:
        """The training to compare with."""
        output = self.folder / f"unbroken-{method}"
        if self.process(method, output, None, 0, 0) != 0:
            raise SystemExit(f"the unbroken training of {method} failed")
        self.expected[method] = json.loads((output / "end.json").read_text("utf-8"))

    def broken(self, name: str, method: str, plans: list[tuple[str, int]]) -> str:
        """One training killed as often as there are plans, then run to its end; returns its trace."""
        output, trace = self.folder / name, ""
        for place, number in plans:
            workers = self.random.choice((0, 0, 0, 1))
            code = self.process(method, output, place, number, workers)
            trace = (output / "trace").read_text("utf-8")
            last = trace.splitlines()[-1]
            if code == -signal.SIGKILL and last.startswith(f"killed: {place}"):
                if "update " in trace.split("start")[1]:
                    self.kills[place] += 1
            elif code != 0:
                end = (output / "log").read_text("utf-8")[-2000:]
                self.problems.append(f"{name}: exit code {code} instead of a kill at {place} {number}; {last}; {end}")
        code = self.process(method, output, None, 0, self.random.choice((0, 0, 1)))
        trace = (output / "trace").read_text("utf-8")
        if code != 0:
            end = (output / "log").read_text("utf-8")[-2000:]
            self.problems.append(f"{name}: not recovered, exit code {code}; {end}")
        elif (found := json.loads((output / "end.json").read_text("utf-8"))) != self.expected[method]:
            differing = [key for key, value in found.items() if value != self.expected[method][key]]
            self.problems.append(f"{name}: ends with other {', '.join(differing)} than the unbroken training")
        shutil.rmtree(output)
        return trace

    def plan(self, place: str, method: str) -> tuple[str, int]:
        """A place and how often it is passed before the kill; late enough for an update to be finished."""
        updates = METHODS[method][2]["max_steps"]
        highest = {"update": updates - 2, "save": 90, "search": 40, "border": 3}[place]
        return place, self.random.randint(0, highest)

    def kill(self, place: str, count: int, show: Callable[[str], None], among: str | None = None) -> None:
        """Kills trainings, of one method if it is named, at one kind of place until `count` kills have been counted there."""
        bar = tqdm(total=count, desc=f"kills: {place}", disable=None)
        while self.kills[place] < count and not self.problems:
            method = among or self.random.choice(PLACES[place])
            if method not in self.expected:
                self.unbroken(method)
            plans = [self.plan(place, method)]
            self.runs += 1
            if self.runs % 2:  # two kills in a row
                second = self.random.choice([each for each, methods in PLACES.items() if method in methods])
                plans.append(self.plan(second, method))
            trace = self.broken(f"run-{self.runs}", method, plans)
            show(f"run {self.runs}: " + " · ".join(trace.splitlines()))
            bar.update(self.kills[place] - bar.n)
        bar.close()


# ---- Resumes of what would be another training --------------------------------------------------------------------

OTHER = {  # values of fields whose old value does not tell a new one
    "temperatures": lambda old: [each * 2 for each in old],
    "label_smoothing_variant": "fairseq",
    "optim": "adamw_torch",
    "optim_args": "x=1",
    "optim_target_modules": ["fc1"],
    "lr_scheduler_type": "linear",
    "lr_scheduler_kwargs": {"timescale": 9},
    "candidates": lambda old: old[:-1],
    "stage2_reset": ["optimizer"],
    "students_per": "micro_batch",
    "detach_threshold": 1.5,
    "mutual_start": 0.3,
    "views": lambda old: "independent" if old == "two" else "two",
    "always": ["3-2"],
    "ema_decay": 0.9,
    "unimax_epochs": lambda old: [2.0, 0.0],
    "selection": "batch",
    "gate": "hard",
    "consistency": "r_drop",
    "consistency_weight": 1.0,
    "consistency_start": 3,
    "strategy": lambda old: "bi" if old == "auto" else "auto",
    "weights_file": "weights.json",
    "update_interval": 4,
}
NAMED = {"micro-batches of an update": "took 2 micro-batches each, now they would take 3"}  # fields with errors of their own
VOCABULARY = "has another vocabulary than the student"  # which is seen first where there are teachers
SHAPES = {
    "d_model": 64,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "dropout": 0.2,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "activation_function": "gelu",
    "max_position_embeddings": 128,
}


def changed(folder: Path, name: str, old: object) -> dict[str, object]:
    """What `new_trainer` has to be told for one field of the record to be another."""
    peer, field = (int(name.split()[1]) - 1, name.split()[2]) if name.startswith("peer ") else (0, name)
    made = folder / f"other-{field}"
    if field in (*SHAPES, "configuration", "model_type", "vocab_size", "tokenizer"):
        if not made.exists():
            make_other(folder, field, made)
        if field in ("vocab_size", "tokenizer"):  # which all models share
            return {"models": dict.fromkeys(range(2), made.name), "tokenizer": made.name}
        return {"models": {peer: made.name}}
    if field in ("text", "validation text"):
        split = "train" if field == "text" else "validation"
        if not made.exists():
            rows = datasets.load_from_disk(str(folder / split))
            datasets.DatasetDict({**rows, "fr-en": rows["fr-en"].select(range(len(rows["fr-en"]) - 1))}).save_to_disk(str(made))
        return {split: made.name}
    if field == "teachers":
        return {"changes": {"teachers": [str(folder / "other-teacher")]}}
    if field == "precision":
        return {"changes": {"bf16": True}}
    if field == "micro-batches of an update":
        return {"changes": {"gradient_accumulation_steps": 3}}
    new = OTHER.get(field)
    if callable(new):
        new = new(old)
    elif new is None:
        new = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else old / 2 or 0.5
    return {"changes": {field: new}}


def make_other(folder: Path, field: str, made: Path) -> None:
    """A model that differs in one thing from those that are trained, or a tokenizer of another size with its model."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    if field in ("vocab_size", "tokenizer"):
        text = load_text(DataConfig(pairs=["fr-en", "bs-en"], data_dir=str(folder / "text")), "train")
        tokenizer = train_tokenizer(text, made, vocab_size=710, target_tags="always", max_length=96)
    model = build_model(ModelConfig(**{**SHAPE, **({field: SHAPES[field]} if field in SHAPES else {})}), tokenizer, seed=0)
    if field == "model_type":
        kept = {name: value for name, value in model.config.to_dict().items() if name not in ("model_type", "architectures")}
        model = BartForConditionalGeneration(BartConfig(**kept))
    if field == "configuration":
        model.config.scale_embedding = not model.config.scale_embedding
    model.save_pretrained(made)


def change_fields(chaos: "Chaos", method: str) -> Counter[str]:
    """A killed training is resumed with one field of its record changed, each once; then it is resumed properly.

    Every change has to be refused by the name of the field, and to leave the checkpoints as they are.
    """
    chaos.expected.get(method) or chaos.unbroken(method)
    output, done = chaos.folder / f"changed-{method}", Counter()
    chaos.process(method, output, "update", METHODS[method][2]["max_steps"] // 2, 0)
    newest = max((output / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    record = json.loads((newest / "training.json").read_text("utf-8"))["decides"]
    before = digest_files(output / "checkpoints")
    for name, old in tqdm(record.items(), desc=f"changed fields: {method}", disable=None):
        if name == "method":  # another trainer, which finds no models of its own: not what a user does
            continue
        problem = refused(chaos.folder, method, output, name, changed(chaos.folder, name, old))
        if problem or digest_files(output / "checkpoints") != before:
            chaos.problems.append(f"{method}: {name} changed: {problem or 'the checkpoints are not as they were'}")
        done[method] += 1
    chaos.broken(output.name, method, [])
    return done


def refused(folder: Path, method: str, output: Path, name: str, changes: dict[str, object]) -> str:
    """What is wrong with how a resume with one thing changed ends; nothing if the field is named."""
    try:
        trainer = new_trainer(folder, method, output, **changes)
        trainer.train(resume_from_checkpoint=True)
    except ParetoKDError as error:
        named = VOCABULARY if method == "word_kd" and name in ("model_type", "vocab_size") else NAMED.get(name, name)
        return "" if named in str(error) else f"another error: {error}"
    return "it went on"


FAULTS = ("write limit", "truncation", "checksum", "missing file")


def fault_saves(folder: Path, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Saves that fail or whose files are spoilt afterwards; the whole checkpoint before must be found and unharmed."""
    chance, done, problems = random.Random(seed), Counter(), []
    python_logging.disable(python_logging.WARNING)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    output = folder / "faulted"
    trainer = new_trainer(folder, "all_in_one", output)
    trainer.args.max_steps, trainer.args.load_best_model_at_end = 2, False
    trainer.train()
    trainer._checkpoints_kept = None  # all: the spoilt ones are deleted here
    whole = trainer.checkpoint(2)
    before = digest_files(whole)
    for number in tqdm(range(count), desc="faulted saves", disable=None):
        fault = FAULTS[number % len(FAULTS)]
        trainer.state.global_step = 3
        sizes = [path.stat().st_size for path in whole.rglob("*") if path.is_file()]
        message = ""
        if fault == "write limit":
            limit = chance.randrange(1, max(sizes))
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                trainer._save_checkpoint(trainer.model, None)
                problems.append(f"{number}: a save under a limit of {limit} bytes did not fail")
            except TrainingError as error:
                message = str(error)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            if "could not be written" not in message or str(whole) not in message:
                problems.append(f"{number}: the error does not say what failed and what is left: {message}")
            if list((output / "checkpoints").rglob("checkpoint-3*")):
                problems.append(f"{number}: something of the failed save is left")
        else:
            trainer._save_checkpoint(trainer.model, None)
            path = chance.choice(sorted(path for path in trainer.checkpoint(3).rglob("*") if path.is_file()))
            spoil(path, fault, chance)
            if damage(trainer.checkpoint(3)) is None:
                problems.append(f"{number}: {fault} of {path.name} was not noticed")
        if trainer._whole_checkpoint(True) != whole or digest_files(whole) != before:
            problems.append(f"{number}: {fault}: the checkpoint before was not found as it was")
        shutil.rmtree(trainer.checkpoint(3), ignore_errors=True)
        done[fault] += 1
    python_logging.disable(python_logging.NOTSET)
    return done, problems


def spoil(path: Path, fault: str, chance: random.Random) -> None:
    """Cuts, changes or deletes a file."""
    content = bytearray(path.read_bytes())
    if fault == "missing file":
        path.unlink()
    elif fault == "truncation":
        os.truncate(path, chance.randrange(len(content)))
    else:
        place = chance.randrange(len(content))
        content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(content)


def digest_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> int:
    """The long version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--kills", type=int, nargs=4, default=[25, 15, 15, 8], help="after updates, in saves, searches, at the border"
    )
    parser.add_argument("--saves", type=int, default=200)
    options = parser.parse_args()
    start = time.monotonic()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        chaos = Chaos(folder, options.seed)
        for place, count in zip(PLACES, options.kills, strict=True):
            chaos.kill(place, count, tqdm.write)
        python_logging.disable(python_logging.WARNING)
        fields = sum((change_fields(chaos, method) for method in METHODS), Counter())
        done, problems = fault_saves(folder, options.saves, options.seed)
    problems += chaos.problems
    print("kills after the first update:", ", ".join(f"{count} {place}" for place, count in chaos.kills.items()))
    print("resumes with one field changed:", ", ".join(f"{count} {method}" for method, count in fields.items()))
    print("faulted saves:", ", ".join(f"{count} {fault}" for fault, count in done.items()))
    print(f"lost: {len(problems)}", *problems, sep="\n")
    print(f"{time.monotonic() - start:.0f} s, seed {options.seed}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
