"""Equal micro-batches per update are equal training, however they are split (each launcher really starts two processes)."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import distributed_worker
import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).with_name("distributed_worker.py")
LAUNCHERS = {
    "torchrun": "-m torch.distributed.run --nproc_per_node 2 --master_port {port}",
    "accelerate": "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no "
    "--dynamo_backend no --main_process_port {port}",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory, encoded, tokenizer):
    """What the worker wrote alone (in this process), under torchrun and under accelerate launch."""
    from conftest import SMALL

    from hf_paretokd import ModelConfig, build_model

    folder = tmp_path_factory.mktemp("distributed")
    build_model(
        ModelConfig(**{**SMALL, "encoder_layers": 3, "decoder_layers": 3, "dropout": 0.2}), tokenizer, 3
    ).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "tokenizer")
    for split in ("train", "validation"):
        encoded[split].save_to_disk(folder / split)
    distributed_worker.main(folder, "one")
    for name, launcher in LAUNCHERS.items():
        run = subprocess.run(
            [sys.executable, *launcher.format(port=free_port()).split(), str(WORKER), str(folder), name],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-3000:]
    return {
        name: (json.loads((folder / f"{name}.json").read_text()), load_file(folder / f"{name}.safetensors"))
        for name in ("one", *LAUNCHERS)
    }


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_equal_one_with_accumulation(results, launcher):
    (one, weights), (two, other) = results["one"], results[launcher]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["dropout"] == 0.2
    for expected, found in zip(one["log"], two["log"], strict=True):
        for name in expected:
            if name.startswith(("loss", "eval_loss", "grad", "detach")):
                assert found[name] == pytest.approx(expected[name], abs=1e-5, rel=1e-5), (name, expected["step"])
    for name, tensor in weights.items():
        if name.endswith("k_proj.bias"):
            continue  # softmax cancels it: its gradient is rounding noise, which Adam scales up to whole steps
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5)
