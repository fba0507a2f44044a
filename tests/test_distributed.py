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
def prepared(tmp_path_factory, encoded, tokenizer):
    """A folder with models and data, in which the worker has already run alone (in this process)."""
    from conftest import SMALL

    from hf_paretokd import ModelConfig, build_model

    folder = tmp_path_factory.mktemp("distributed")
    for peer in range(2):
        shape = ModelConfig(**{**SMALL, "encoder_layers": 3, "decoder_layers": 3, "dropout": 0.2})
        build_model(shape, tokenizer, 3 + peer).save_pretrained(folder / f"model-{peer}")
    tokenizer.save_pretrained(folder / "tokenizer")
    for split in ("train", "validation"):
        encoded[split].save_to_disk(folder / split)
    distributed_worker.main(folder, "one")
    return folder


@pytest.fixture(scope="module", params=LAUNCHERS)
def results(request, prepared):
    """What the worker wrote alone and under a launcher, by method."""
    run = subprocess.run(
        [
            sys.executable,
            *LAUNCHERS[request.param].format(port=free_port()).split(),
            str(WORKER),
            str(prepared),
            request.param,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return {
        method: [
            (
                json.loads((prepared / f"{name}-{method}.json").read_text()),
                load_file(prepared / f"{name}-{method}.safetensors"),
            )
            for name in ("one", request.param)
        ]
        for method in distributed_worker.METHODS
    }


@pytest.mark.parametrize("method", distributed_worker.METHODS)
def test_two_processes_equal_one_with_accumulation(results, method):
    (one, weights), (two, other) = results[method]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["dropout"] == 0.2
    for expected, found in zip(one["log"], two["log"], strict=True):
        for name in expected:
            if name.startswith(("loss", "eval_", "grad", "detach", "peer")):
                assert found[name] == pytest.approx(expected[name], abs=1e-5, rel=1e-5), (name, expected["step"])
    for name, tensor in weights.items():
        if name.endswith("k_proj.bias"):
            continue  # softmax cancels it: its gradient is rounding noise, which Adam scales up to whole steps
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_two_processes_decide_as_one(results):
    one, two = (report["history"] for report, _ in results["auto"])
    assert [entry["update"] for entry in one] == [entry["update"] for entry in two] == [0, 2, 4]
    for expected, found in zip(one[1:], two[1:], strict=True):
        for mine, theirs in zip(expected["searches"], found["searches"], strict=True):
            assert theirs["actions"] == mine["actions"]
            for action, losses in mine["losses"].items():
                assert theirs["losses"][action] == pytest.approx(losses, rel=1e-5)
        assert found["weights"] == expected["weights"]
    one, two = (report["history"] for report, _ in results["uni"])
    assert [entry["weights"] for entry in one] == [entry["weights"] for entry in two]
    for entry in one[1:]:
        assert all(sum(mine[pair] > 0 for mine in entry["weights"]) == 1 for pair in ("fr-en", "bs-en"))
