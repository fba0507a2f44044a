"""A family of small models from a model that exists, on Tatoeba German-English: trains what docs/shrink.md quotes.

python docs/results/shrink.py FOLDER_WITH_THE_TEXT OUTPUT [--scale small] [--until STEP] [--field value …]

The steps, each made once and gone on with where it was cut off:

text      the first half of the pairs for the original; German of the second half, and 2,000 pairs of it, for its students
teacher   plain 6-6, 256 wide, 8,000 pieces, on the first half
original  the same in the form of an opus-mt repository: pickled weights, old fields; "the model that exists"
trimmed   `paretokd shrink` with 4,000 pieces
pairs     6-2, 3-2 and 2-2 trained alone on the 2,000 pairs
seq-kd    the same on the translations, with the trimmed vocabulary
whole     as trimmed, with all pieces that the text needs
table     results and sizes of all that is finished into shrink.json beside this file

At the small scale (3-3, 128 wide, fewer updates), for what trimming costs alone, `pairs` and `seq-kd` are left out.
"""

import argparse
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

RECIPE = Path(__file__).parent.parent.parent / "recipes" / "multi30k-de-en.yaml"
PARALLEL = 2000


@dataclass(frozen=True)
class Scale:
    """How large models and trainings are."""

    layers: int
    width: int
    depths: tuple[str, ...]
    teacher: tuple[str, ...]
    family: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def shape(self) -> list[str]:
        """Words of a training."""
        shape = {"d_model": self.width, "dropout": 0.1}
        for side in ("encoder", "decoder"):
            shape |= {f"{side}_layers": self.layers, f"{side}_ffn_dim": 4 * self.width, f"{side}_attention_heads": 4}
        return [f"--model.{name}={value}" for name, value in shape.items()]


SCALES = {
    "full": Scale(
        6,
        256,
        ("6-2", "3-2", "2-2"),
        ("--learning_rate=1e-3", "--warmup_steps=300", "--max_steps=3000", "--eval_steps=250"),
        ("--learning_rate=5e-4", "--warmup_steps=200", "--max_steps=2000", "--eval_steps=250"),
    ),
    "small": Scale(
        3,
        128,
        ("3-2", "2-2"),
        ("--learning_rate=2e-3", "--warmup_steps=150", "--max_steps=1500", "--eval_steps=250"),
        ("--learning_rate=1e-3", "--warmup_steps=80", "--max_steps=800", "--eval_steps=200"),
        ("pairs", "seq-kd"),
    ),
}
LENGTH = ["--max_tokens=4096", "--gradient_accumulation_steps=1", "--logging_steps=50", "--save_total_limit=1"]


Step = Callable[[Scale, Path, Path, Sequence[str]], None]


def main() -> None:
    """Makes what is not there yet, in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="folder with SPLIT.de.gz and SPLIT.en.gz")
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--until", choices=STEPS, default=list(STEPS)[-1], help="last step")
    options, fields = parser.parse_known_args()
    options.output.mkdir(parents=True, exist_ok=True)
    place = options.output.resolve()
    scale = SCALES[options.scale]
    for name, step in STEPS.items():
        if name not in scale.left_out:
            step(scale, options.text.resolve(), place, fields)
        if name == options.until:
            break


def lines(path: Path) -> list[str]:
    """The lines of a packed file."""
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def text(_: Scale, given: Path, place: Path, __: Sequence[str]) -> None:
    """Divides the pairs."""
    if (place / "mono.de").exists():
        return
    sides = {language: lines(given / f"train.{language}.gz") for language in ("de", "en")}
    half = len(sides["de"]) // 2
    for name, part in (("text", slice(0, half)), ("parallel", slice(half, half + PARALLEL))):
        folder = place / name / "de-en"
        folder.mkdir(parents=True, exist_ok=True)
        for language, side in sides.items():
            (folder / f"train.{language}").write_text("".join(f"{line}\n" for line in side[part]))
            for split, theirs in (("validation", "val"), ("test", "test")):
                (folder / f"{split}.{language}").write_bytes(gzip.decompress((given / f"{theirs}.{language}.gz").read_bytes()))
    (place / "mono.de").write_text("".join(f"{line}\n" for line in sides["de"][half:]))


def train(folder: Path, command: Sequence[str | Path], fields: Sequence[str]) -> None:
    """A training by the command line, if it is not finished."""
    if (folder / "results.json").exists():
        return
    begun = ["--resume"] if (folder / "recipe.yaml").exists() else []
    words = [*command, *LENGTH, *fields, "--disable_tqdm=true", *begun]
    subprocess.run([sys.executable, "-m", "hf_paretokd.cli", *map(str, words)], check=True)


def plain(scale: Scale, folder: Path, data: Path, words: Sequence[str], fields: Sequence[str]) -> None:
    """A plain training."""
    both = [
        "--method=plain",
        "--data.pairs=[de-en]",
        f"--data.data_dir={data}",
        "--data.validation=validation",
        "--data.test=test",
    ]
    train(folder, ["train", RECIPE, *both, *scale.shape, *words, f"--output_dir={folder}"], fields)


def teacher(scale: Scale, _: Path, place: Path, fields: Sequence[str]) -> None:
    """Trains what will be the original."""
    words = ["--tokenizer.vocab_size=8000", *scale.teacher]
    plain(scale, place / "runs" / "teacher", place / "text", words, fields)


def original(scale: Scale, _: Path, place: Path, __: Sequence[str]) -> None:
    """Gives it the form of an opus-mt repository."""
    folder, model = place / "original", place / "runs" / "teacher" / "model"
    if folder.exists():
        return
    written = place / "original.unfinished"
    shutil.rmtree(written, ignore_errors=True)
    shutil.copytree(model, written)
    state = load_file(written / "model.safetensors")
    shared = state["model.shared.weight"]
    aliases = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    torch.save({**state, **dict.fromkeys(aliases, shared)}, written / "pytorch_model.bin")
    (written / "model.safetensors").unlink()
    config = json.loads((written / "config.json").read_text())
    old = {"add_bias_logits": False, "add_final_layer_norm": False, "normalize_before": False, "normalize_embedding": False}
    old |= {"static_position_embeddings": True, "num_hidden_layers": scale.layers, "extra_pos_embeddings": config["vocab_size"]}
    (written / "config.json").write_text(json.dumps({**config, **old}))
    (written / "README.md").write_text("---\nlicense: cc-by-2.0\nlanguage: [de, en]\n---\n")
    written.rename(folder)


def shrunk(name: str, *words: str) -> Step:
    """`paretokd shrink` of the original."""

    def step(scale: Scale, _: Path, place: Path, fields: Sequence[str]) -> None:
        folder = place / "runs" / name
        full = f"{scale.layers}-{scale.layers}"
        how = ["--shrink.pickled_weights=true", "--shrink.engine=ctranslate2", "--depths", full, *scale.depths]
        given = ["--pairs", "de-en", "--text", place / "mono.de", "--parallel", place / "parallel", "--output", folder]
        train(folder, ["shrink", place / "original", *given, *how, *words, *scale.family], fields)

    return step


def alone(name: str, data: str, tokenizer: str, *words: str) -> Step:
    """Plain models of every depth."""

    def step(scale: Scale, _: Path, place: Path, fields: Sequence[str]) -> None:
        for depth in scale.depths:
            layers = [
                f"--model.{side}_layers={count}" for side, count in zip(("encoder", "decoder"), depth.split("-"), strict=True)
            ]
            vocabulary = f"--tokenizer.from_pretrained={place / tokenizer}"
            plain(scale, place / "runs" / f"{name}-{depth}", place / data, [*layers, vocabulary, *words], fields)

    return step


def table(scale: Scale, _: Path, place: Path, __: Sequence[str]) -> None:
    """Keeps what the table in docs/shrink.md is made of; milliseconds are those of the machine as it was."""
    path = Path(__file__).parent / "shrink.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    before = "" if scale is SCALES["full"] else "small-"
    for folder in sorted((place / "runs").iterdir()):
        if (folder / "results.json").exists():
            costs = {path.stem: json.loads(path.read_text()) for path in folder.glob("latency*.json")}
            kept[before + folder.name] = {"rows": json.loads((folder / "results.json").read_text()), "costs": costs}
    text = json.dumps(kept, indent=1, ensure_ascii=False).replace(f"{place}/", "")
    path.write_text(f"{text}\n")


LONG = ("--learning_rate=1e-3", "--warmup_steps=200", "--max_steps=2000", "--eval_steps=250")
SHORT = ("--learning_rate=1e-3", "--warmup_steps=100", "--max_steps=500", "--eval_steps=50", "--model.dropout=0.3")
STEPS = {
    "text": text,
    "teacher": teacher,
    "original": original,
    "trimmed": shrunk("trimmed", "--vocab_size=4000"),
    "pairs": alone("pairs", "parallel", "original", *SHORT),
    "seq-kd": alone("seq-kd", "runs/trimmed.start/text", "runs/trimmed.start/model", *LONG),
    "whole": shrunk("whole"),
    "table": table,
}


if __name__ == "__main__":
    main()
