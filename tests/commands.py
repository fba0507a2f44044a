"""The command line in this process, and what several tests give it."""

import sys
from importlib.resources import files
from pathlib import Path

import pytest

from hf_paretokd.cli import main as cli
from hf_paretokd.data.demo_corpus import write_demo_corpus


def command(*words) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["paretokd", *map(str, words)])
        return cli.main()


TINY = [
    "--tokenizer.vocab_size",
    "700",
    "--model.encoder_layers",
    "2",
    "--model.decoder_layers",
    "2",
    "--model.d_model",
    "16",
    "--model.encoder_ffn_dim",
    "16",
    "--model.decoder_ffn_dim",
    "16",
    "--max_steps",
    "4",
    "--eval_steps",
    "2",
    "--logging_steps",
    "1",
    "--max_tokens",
    "400",
    "--bf16",
    "false",
    "--disable_tqdm",
    "true",
    "--warmup_steps",
    "1",
]


SURE = (
    "--model.encoder_layers 6 --model.d_model 64 --model.encoder_ffn_dim 128 --max_steps 500 --eval_steps 250 --max_tokens 1000"
)
DEEP = f"{SURE} --learning_rate 0.003 --warmup_steps 60 --evaluation.depths 6-2 --model.max_position_embeddings 64".split()


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["paretokd", *map(str, words)])
    return cli.main()


def small_run(folder: Path) -> Path:
    """A run in `folder` with a student 6-2 that is sure enough of itself for runtimes to be compared; made once."""
    if (folder / "run" / "students" / "6-2").is_dir():
        return folder / "run"
    write_demo_corpus(folder / "text", {"fr": 3000})
    recipe = "method: all_in_one\ndata: {pairs: [fr-en], data_dir: text}\ntraining: {output_dir: run}\n"
    (folder / "recipe.yaml").write_text(recipe.replace(": text", f": {folder}/text").replace(": run", f": {folder}/run"))
    assert command("train", folder / "recipe.yaml", *TINY, *DEEP, "--overwrite") == 0
    return folder / "run"


PATIENCE = 900  # seconds for a real process: no test is about speed, and machines may be loaded

SHIPPED = sorted(path for path in Path(str(files("hf_paretokd.recipes"))).iterdir() if path.suffix == ".yaml")
