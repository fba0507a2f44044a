"""The command line in this process, and what several tests give it."""

import sys
from importlib.resources import files
from pathlib import Path

import pytest

from hf_paretokd.cli import main as cli


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


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["paretokd", *map(str, words)])
    return cli.main()


PATIENCE = 900  # seconds for a real process: no test is about speed, and machines may be loaded

SHIPPED = sorted(path for path in Path(str(files("hf_paretokd.recipes"))).iterdir() if path.suffix == ".yaml")
