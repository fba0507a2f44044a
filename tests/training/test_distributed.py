"""Equal micro-batches per update are equal training, however they are split (each launcher really starts two processes)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import distributed_worker
import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from commands import PATIENCE
from safetensors.torch import load_file

from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.training.sharding import LOADED_BY_ONE, settle_sharding

WORKER = Path(distributed_worker.__file__)
LAUNCHERS = {
    "torchrun": "-m torch.distributed.run --nproc_per_node 2 --master_port {port}",
    "accelerate": "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no "
    "--dynamo_backend no --main_process_port {port}",
}
STARTED_BY = {"all_in_one": "torchrun", "auto": "accelerate", "uni": "accelerate"}
SHARDED = ("r_drop", "two_views")
STARTED_BY |= dict.fromkeys(("r_drop", "simcut", "two_views", "word_kd", "lssd", "both"), "torchrun")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, encoded, tokenizer):
    """A folder with models and data, in which the worker has already run alone (in this process)."""
    from conftest import SMALL

    from hf_paretokd import ModelConfig, build_model
    from hf_paretokd.models.files import save_model

    folder = tmp_path_factory.mktemp("distributed")
    for peer in range(2):
        shape = ModelConfig(**{**SMALL, "encoder_layers": 3, "decoder_layers": 3, "dropout": 0.2})
        build_model(shape, tokenizer, 3 + peer).save_pretrained(folder / f"model-{peer}")
    tokenizer.save_pretrained(folder / "tokenizer")
    save_model(build_model(ModelConfig(**SMALL), tokenizer, 9), tokenizer, folder / "teacher")
    for split in ("train", "validation"):
        encoded[split].save_to_disk(folder / split)
    distributed_worker.main(folder, "one")
    return folder


def launched(folder: Path, launcher: str, name: str = "two", methods: Iterable[str] = (), **environment: str) -> Path:
    """Has the worker run some of its methods in two processes."""
    methods = methods or [method for method, mine in STARTED_BY.items() if mine == launcher]
    run = subprocess.run(
        [sys.executable, *LAUNCHERS[launcher].format(port=free_port()).split(), str(WORKER), str(folder), name, *methods],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def by_torchrun(prepared):
    return launched(prepared, "torchrun")


@pytest.fixture(scope="module")
def by_accelerate(prepared):
    return launched(prepared, "accelerate")


@pytest.fixture(scope="module")
def sharded(prepared):
    return launched(prepared, "torchrun", "sharded", SHARDED, ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")


def result(folder, name, method):
    report = json.loads((folder / f"{name}-{method}.json").read_text())
    return report, load_file(folder / f"{name}-{method}.safetensors")


@pytest.mark.parametrize("method", STARTED_BY)
def test_two_processes_equal_one_with_accumulation(prepared, request, method):
    compare(request.getfixturevalue(f"by_{STARTED_BY[method]}"), "two", method)


@pytest.mark.parametrize("method", SHARDED)
def test_divided_models_equal_whole_ones(sharded, method):
    compare(sharded, "sharded", method)
    assert result(sharded, "sharded", method)[0]["sharded"]


def test_divided_models_are_resumed_exactly(sharded):
    report, _ = result(sharded, "sharded", "two_views")
    assert report["resumed"]
    assert {"optimizer.bin", "trained_weights.safetensors", "teacher"} <= {*report["files"]}
    assert not [name for name in report["files"] if "fsdp" in name], "plain checkpoints hold the weights"


def compare(folder, name, method):
    (one, weights), (two, other) = result(folder, "one", method), result(folder, name, method)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["dropout"] == 0.2
    residuals = []
    for expected, found in zip(one["log"], two["log"], strict=True):
        for name in expected:
            if name.startswith(("loss", "eval_", "grad", "detach", "peer", "sampling_")) and name != "loader_wait":
                # the norm of a gradient keeps more of the rounding than a mean of losses: 2e-5 on one kind of CPU
                near = 1e-4 if name.endswith("grad_norm") else 1e-5
                assert found[name] == pytest.approx(expected[name], abs=near, rel=near), (name, expected["step"])
        if "loss" in expected:
            residuals.append(abs(found["loss"] - expected["loss"]))
    assert max(residuals) <= 1e-5
    near = 4e-6 if method == "both" else 1e-6  # the sum of six losses is about 38, where float32 numbers are 4e-6 apart
    assert sum(residuals) / len(residuals) <= near
    for name, tensor in weights.items():
        if name.endswith("k_proj.bias"):
            continue  # softmax cancels it: its gradient is rounding noise, which Adam scales up to whole steps
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=3e-5, msg=name)


def test_fifty_updates_decide_as_one_process(by_torchrun):
    """Which students are detached and who is senior, in every micro-batch; processes take micro-batches in turn."""
    read = lambda name, rank: json.loads((by_torchrun / f"{name}-all_in_one-decisions-{rank}.json").read_text())  # noqa: E731
    one, first, second = read("one", 0), read("two", 0), read("two", 1)
    assert len(one) == 50 * distributed_worker.MICRO_BATCHES
    turns = [each for pair in zip(first, second, strict=True) for each in pair]
    assert turns == one
    detached = [teacher == 0 and not gradient for terms in one for teacher, _, gradient in terms]
    assert 0 < sum(detached) < len(detached), "both decisions occur"


def test_two_processes_decide_as_one(by_accelerate):
    one, two = (result(by_accelerate, name, "auto")[0]["history"] for name in ("one", "two"))
    assert [entry["update"] for entry in one] == [entry["update"] for entry in two] == [0, 2, 4]
    for expected, found in zip(one[1:], two[1:], strict=True):
        for mine, theirs in zip(expected["searches"], found["searches"], strict=True):
            assert theirs["actions"] == mine["actions"]
            for action, losses in mine["losses"].items():
                assert theirs["losses"][action] == pytest.approx(losses, rel=1e-5)
        assert found["weights"] == expected["weights"]
    one, two = (result(by_accelerate, name, "uni")[0]["history"] for name in ("one", "two"))
    assert [entry["weights"] for entry in one] == [entry["weights"] for entry in two]
    for entry in one[1:]:
        assert all(sum(mine[pair] > 0 for mine in entry["weights"]) == 1 for pair in ("fr-en", "bs-en"))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory, encoded, tokenizer):
    """Two launchers on one machine, each in a folder that stands for the disk of its node; what the workers said."""
    from conftest import SMALL

    from hf_paretokd import ModelConfig, build_model

    given = tmp_path_factory.mktemp("nodes")
    build_model(ModelConfig(**SMALL), tokenizer, 3).save_pretrained(given / "model-0")
    tokenizer.save_pretrained(given / "tokenizer")
    for split in ("train", "validation"):
        encoded[split].save_to_disk(given / split)
    port, processes = free_port(), []
    for rank in range(2):
        (place := given / f"disk-{rank}").mkdir()
        launcher = f"-m torch.distributed.run --nnodes 2 --node_rank {rank} --nproc_per_node 1 --master_port {port}"
        words = [sys.executable, *launcher.split(), "--master_addr", "127.0.0.1", str(WORKER.with_name("nodes_worker.py"))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (place / "log").open("w") as log:
            started = {"cwd": place, "env": environment, "stdout": log, "stderr": log, "start_new_session": True}
            processes.append(subprocess.Popen([*words, str(given)], **started))
    reports = [given / f"disk-{rank}" / "report.json" for rank in range(2)]
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE and not (given / "disk-0" / "ended").is_file() and processes[0].poll() is None:
        time.sleep(0.2)
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)  # launchers wait five minutes for each other
        process.wait()
    assert all(path.is_file() for path in reports), (given / "disk-0" / "log").read_text()[-3000:]
    return [json.loads(path.read_text()) for path in reports]


def test_nodes_without_a_common_disk_train_and_resume(nodes):
    for report in nodes:
        assert (report["nodes"], report["same"], report["steps"]) == (2, True, 4)
        assert report["timeout"] == 60, "ddp_timeout, which transformers hands on for GPUs only"


def test_a_dead_process_ends_the_others_with_one_line(nodes):
    said = nodes[0]["said"]
    assert said.startswith("another process of the training is gone; the last whole checkpoint is dying/checkpoints/check")
    assert nodes[0]["seconds"] < 30
    assert "said" not in nodes[1]


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"])
def test_engines_that_compute_updates_themselves_are_refused(tmp_path, monkeypatch, variable):
    from hf_paretokd import PlainConfig

    monkeypatch.setenv(variable, "true")
    with pytest.raises(TrainingError, match=r"updates by itself, .* use torchrun, or .* --use_fsdp --fsdp_version 2"):
        PlainConfig(output_dir=str(tmp_path), bf16=False)


@pytest.fixture
def fsdp_asked(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv(LOADED_BY_ONE, "true")


def test_fsdp_is_had_where_it_divides_something_and_by_methods_that_allow_it(fsdp_asked, monkeypatch, new_trainer):
    with pytest.raises(TrainingError, match="pareto_mutual computes and validates its models one by one"):
        new_trainer("pareto_mutual")
    with pytest.raises(TrainingError, match="torch_compile: cannot be had where FSDP divides the models"):
        new_trainer("plain", torch_compile=True)
    with pytest.raises(TrainingError, match="divides nothing on this machine: use torchrun"):
        new_trainer("plain")
    assert os.environ[LOADED_BY_ONE] == "false", "else all processes but one would load empty models"
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(TrainingError, match="asks for FSDP 1: set fsdp_version to 2"):
        new_trainer("plain")


def test_parameters_stay_on_gpus(fsdp_asked):
    state = SimpleNamespace(fsdp_plugin=FullyShardedDataParallelPlugin(cpu_offload=True))
    with pytest.raises(TrainingError, match=r"fsdp_offload_params: .* set it to false"):
        settle_sharding(SimpleNamespace(is_fsdp2=True, state=state))


def test_optimizer_states_of_two_kinds_are_not_mixed(new_trainer):
    trainer = new_trainer("plain", max_steps=2, eval_steps=1)
    trainer.train()
    folder = trainer.checkpoint(1)
    (folder / "optimizer.pt").rename(folder / "optimizer.bin")
    with pytest.raises(ModelError, match="was written with FSDP"):
        trainer._load_optimizer_and_scheduler(str(folder))
