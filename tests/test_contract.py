"""What is needed of transformers and sacreBLEU beyond their public interface: one table, checked against what is installed."""

import ast
import inspect
from pathlib import Path

import pytest
import torch
import transformers
from transformers import Seq2SeqTrainer, Trainer

from hf_paretokd.evaluation.metrics import scorers
from hf_paretokd.methods.registry import METHODS
from hf_paretokd.training.stock import StockTrainer

PACKAGE = Path(inspect.getfile(StockTrainer)).parent.parent
HOOKS = {  # overridden in training/stock.py: the parameters they are called with
    "_clip_grad_norm": ["model"],
    "_determine_best_metric": ["metrics", "trial"],
    "_evaluate": ["trial", "ignore_keys_for_eval", "skip_scheduler"],
    "_get_grad_norm": ["model", "grad_norm"],
    "_get_num_items_in_batch": ["batch_samples", "device"],
    "_get_output_dir": ["trial"],
    "_load_best_model": [],
    "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["checkpoint"],
    "_load_rng_state": ["checkpoint"],
    "_load_scaler": ["checkpoint"],
    "_push_from_checkpoint": ["checkpoint_folder"],
    "_save": ["output_dir", "state_dict"],
    "_save_checkpoint": ["model", "trial"],
    "_save_optimizer_and_scheduler": ["output_dir"],
}
ATTRIBUTES = {"_tr_loss", "_globalstep_last_logged", "_created_lr_scheduler"}  # read and set in training/stock.py
PUBLIC = {  # overridden anywhere, because their meaning has changed between releases: what they are given
    "call_model_init": ["trial"],
    "compute_loss": ["model", "inputs", "return_outputs", "num_items_in_batch"],
    "create_accelerator_and_postprocess": [],
    "create_scheduler": ["num_training_steps", "optimizer"],
    "evaluate": ["eval_dataset", "ignore_keys", "metric_key_prefix"],
    "get_batch_samples": ["epoch_iterator", "num_batches", "device"],
    "get_train_dataloader": [],
    "hyperparameter_search": ["hp_space", "compute_objective", "n_trials", "direction", "backend", "hp_name"],
    "init_hf_repo": [],
    "log": ["logs", "start_time"],
    "predict": ["test_dataset", "ignore_keys", "metric_key_prefix"],
    "push_to_hub": ["commit_message", "blocking", "token"],
    "save_model": ["output_dir", "_internal_call"],
    "save_state": [],
    "train": ["resume_from_checkpoint", "trial", "ignore_keys_for_eval"],
    "training_step": ["model", "inputs", "num_items_in_batch"],
}
FLAGS = {"model_accepts_loss_kwargs", "is_in_train", "callback_handler"}  # loss_is_scaled_for_ga is ignored where it is unknown
# private names touched elsewhere: module → name → what has it
TOUCHES = {
    "inference/pipeline.py": {"_build_translation_inputs": transformers.NllbTokenizer},
    "methods/weighting/trials.py": {
        "_utils": torch,
        "_flatten_dense_tensors": torch._utils,
        "_unflatten_dense_tensors": torch._utils,
    },
    "evaluation/bootstrap.py": {
        "_extract_corpus_statistics": scorers("en")["bleu"],
        "_compute_score_from_stats": scorers("en")["chrf"],
    },
    "models/building.py": {"_keys_to_ignore_on_save": transformers.MarianMTModel},
    "models/files.py": {"_keys_to_ignore_on_save": transformers.MarianMTModel},
    "models/slicing.py": {"_modules": torch.nn.Linear(1, 1)},
    "training/stock.py": {"_prepare_inputs": Trainer},
}
PIPELINE = {
    "_load_processor",
    "_load_image_processor",
    "_load_feature_extractor",
    "_load_tokenizer",
    "_pipeline_calls_generate",
}
PIPELINE |= {"_sanitize_parameters", "_forward"}


def parameters(function) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "kwargs", "gen_kwargs", "args")]


def private(names) -> set[str]:
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def trainers() -> set[type]:
    return {kind for trainer in METHODS for kind in trainer.__mro__ if kind.__module__.startswith("hf_paretokd.")}


@pytest.mark.parametrize("name", HOOKS)
def test_the_trainer_calls_its_hooks_as_ours_are_written(name):
    assert set(HOOKS[name]) <= set(parameters(getattr(Seq2SeqTrainer, name)))
    assert f"self.{name}(" in inspect.getsource(inspect.getmodule(Trainer)), "it is called at all"


def test_private_hooks_are_overridden_in_one_file_only():
    ours = trainers()
    assert StockTrainer in ours
    assert private(vars(StockTrainer)) == set(HOOKS)
    for kind in ours - {StockTrainer}:
        assert not private(vars(kind)) & set(dir(Seq2SeqTrainer)), kind


@pytest.mark.parametrize("name", PUBLIC)
def test_public_methods_take_what_ours_take(name):
    assert set(PUBLIC[name]) <= set(parameters(getattr(Seq2SeqTrainer, name)))


def test_every_overridden_public_method_is_in_the_table():
    known = {name for name in dir(Seq2SeqTrainer) if not name.startswith("_")}
    assert {name for kind in trainers() for name in vars(kind)} & known == set(PUBLIC)


@pytest.mark.parametrize("name", sorted(ATTRIBUTES | FLAGS))
def test_attributes_of_the_trainer_are_there(name):
    assert f"self.{name}" in inspect.getsource(inspect.getmodule(Trainer))


def test_no_private_name_is_touched_that_is_not_in_the_table():
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        code = ast.parse(path.read_text("utf-8"))
        own = {node.attr for node in ast.walk(code) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
        own |= {node.name for node in ast.walk(code) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(code):
            name = node.attr if isinstance(node, ast.Attribute) else None
            if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("hf_paretokd"):
                parts = {*(node.module or "").split("."), *(alias.name for alias in node.names)}
                assert not private(parts) - {"__future__"}, f"{path}: {parts}"
            if name and private([name]) and name not in own:
                found.setdefault(path.relative_to(PACKAGE).as_posix(), set()).add(name)
    stock = found.pop("training/stock.py") - set(HOOKS)
    assert stock - ATTRIBUTES == set(TOUCHES["training/stock.py"])
    # our own private members that a class inherits
    inherited = {"training/push.py": {"_uploads"}, "training/trainer.py": set(), "methods/pareto_mutual.py": set()}
    for module, names in found.items():
        names -= inherited.get(module, set()) | {"_clock", "_window", "_current", "_models", "_translations", "_peers"}
        assert names <= set(TOUCHES.get(module, {})), f"{module}: {names}"
    for module, names in TOUCHES.items():
        for name, owner in names.items():
            assert hasattr(owner, name), f"{module} needs {name}"


def test_pipelines_have_the_steps_that_ours_fills_in():
    for name in PIPELINE:
        assert hasattr(transformers.Pipeline, name), name
    assert isinstance(getattr(transformers.pipelines, "REMOVED_TASKS", {}), dict)
    assert {"register_pipeline", "get_supported_tasks"} <= set(dir(transformers.pipelines.PIPELINE_REGISTRY))
