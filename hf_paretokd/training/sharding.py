"""Models divided among processes by FSDP2: what accelerate is told of it, and the whole copies that all else works on."""

import copy
import os
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from hf_paretokd.errors import TrainingError
from hf_paretokd.models.joint import JointModel
from hf_paretokd.training.processes import asked_for

LOADED_BY_ONE = "FSDP_CPU_RAM_EFFICIENT_LOADING"  # of transformers: all processes but one would begin with empty models


def check_sharding(able: bool, method: str, asked: Mapping[str, bool]) -> None:
    """Has every process load whole models, if the launcher asks for FSDP2.

    Raises:
        TrainingError: the method, or something else that is asked for, cannot be had with it.
    """
    if not fsdp_wanted():
        return
    if not able:
        raise TrainingError(
            f"accelerate's configuration asks for FSDP, and {method} computes and validates its models one by one: use "
            "torchrun, or accelerate launch --multi_gpu"
        )
    if name := next((name for name, wanted in asked.items() if wanted), None):
        raise TrainingError(f"{name}: cannot be had where FSDP divides the models; leave it out")
    os.environ[LOADED_BY_ONE] = "false"


def fsdp_wanted() -> bool:
    """Whether accelerate's configuration asks for it."""
    return asked_for("ACCELERATE_USE_FSDP")


def settle_sharding(accelerator: Accelerator) -> None:
    """Has accelerate divide the joint model as one unit: gathered before a forward, its gradients scattered after the backward.

    Processes need not run the same layers, because they draw students by themselves; so layers cannot be units. Autocast is
    in charge of precision, as it is without FSDP, and sums over tokens stay in float32.

    Raises:
        TrainingError: there is nothing to divide here, or parameters would be kept off the GPU.
    """
    if not fsdp_wanted():
        return
    if not accelerator.is_fsdp2:
        raise TrainingError(
            "accelerate's configuration asks for FSDP, by which accelerate divides nothing on this machine: use torchrun, or "
            "accelerate launch --multi_gpu"
        )
    plugin = accelerator.state.fsdp_plugin
    if isinstance(plugin.cpu_offload, torch.distributed.fsdp.CPUOffloadPolicy):
        raise TrainingError("fsdp_offload_params: these models are small enough for the GPUs; set it to false")
    plugin.auto_wrap_policy, plugin.mixed_precision_policy = None, MixedPrecisionPolicy()
    plugin.set_auto_wrap_policy = lambda model: None  # it would ask for the names of layers
    plugin.cpu_ram_efficient_loading = False
    plugin.state_dict_config = plugin.optim_state_dict_config = None  # those of the kind it has now
    plugin.set_state_dict_type("FULL_STATE_DICT")  # one file, written and read by the main process


def is_sharded(model: nn.Module) -> bool:
    """Whether every process holds a part of the model only."""
    return isinstance(model, FSDPModule)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensor: Tensor) -> Tensor:
    """The whole of it; to be called by all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class WholeCopy:
    """A copy of a model from before it was divided, which can be filled with what it has become.

    It is kept in the memory of the CPU, and everything that looks at whole models looks at it: validation, generation, saving.

    Args:
        model: not yet divided.
    """

    def __init__(self, model: JointModel) -> None:
        self.model = copy.deepcopy(model)

    @torch.no_grad()
    def gather(self, model: nn.Module) -> JointModel:
        """The copy, with the weights of the divided model; to be called by all processes."""
        self.model.cpu()
        own = self.model.state_dict()
        for name, tensor in model.state_dict().items():
            own[name].copy_(gathered(tensor))
        return self.model

    def scatter(self, model: nn.Module) -> None:
        """Has the divided model take up the weights of the copy."""
        set_model_state_dict(model, self.model.state_dict(), options=StateDictOptions(full_state_dict=True))
