"""What becomes of every argument of `Seq2SeqTrainingArguments` and every parameter of `Seq2SeqTrainer` here.

`docs/trainer.md` shows these tables; a test fails when transformers has a name that they lack.
"""

import dataclasses
from typing import Any

from transformers import Seq2SeqTrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.utils import logging

from hf_paretokd.errors import TrainingError

logger = logging.get_logger(__name__)

# ---- arguments

HONOURED = (  # as in transformers; with other defaults where `TranslationConfig` says so
    *("output_dir", "num_train_epochs", "max_steps", "seed", "full_determinism", "use_cpu", "debug"),
    *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    *("optim", "optim_args", "optim_target_modules", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("gradient_accumulation_steps", "max_grad_norm", "label_smoothing_factor"),
    *("bf16", "fp16", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps"),
    *("activation_checkpointing", "activation_checkpointing_kwargs"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs"),
    *("logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node", "log_level", "log_level_replica"),
    *("disable_tqdm", "report_to", "run_name", "project"),
    *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
    *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start"),
    *("predict_with_generate", "generation_max_length", "generation_num_beams"),
    *("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
    *("save_strategy", "save_steps", "save_total_limit"),
    "restore_callback_states_from_checkpoint",
    *("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor"),
    *("ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_backend", "ddp_timeout", "ddp_static_graph"),
    "skip_memory_metrics",
)
FIXED = {  # honoured at one value only
    "save_on_each_node": "must stay off; transformers writes models on one node, and nodes without that disk are sent them",
    "average_tokens_across_devices": "must stay on; the loss is divided by the tokens of all processes",
    "ignore_data_skip": "must stay on; the stream goes on where it stopped and skips nothing",
    "remove_unused_columns": "must stay off; micro-batches are made of input_ids and labels alone",
    "logging_nan_inf_filter": "must stay off; a loss that is not finite ends the training, or see skip_nonfinite_updates",
    "ddp_find_unused_parameters": "must stay off; every parameter is used in every update",
}
REFUSED = {
    "per_device_train_batch_size": "micro-batches are filled by tokens; set max_tokens",
    "per_device_eval_batch_size": "micro-batches are filled by tokens; set max_tokens",
    "auto_find_batch_size": "micro-batches are filled by tokens; set max_tokens, lower if memory runs out",
    "train_sampling_strategy": "sentences are drawn by pair and bucketed by length anyway; set temperatures",
    "sortish_sampler": "sentences are bucketed by length anyway",
    "data_seed": "the order of the data is a function of seed",
    "neftune_noise_alpha": "noise on embeddings would not reach the passes that share them; set model.dropout",
    "use_liger_kernel": "its fused loss replaces the models' own, which is not used here",
    "liger_kernel_config": "its fused loss replaces the models' own, which is not used here",
    "save_only_model": "a checkpoint without its training state cannot be resumed; students are plain checkpoints anyway",
    "fsdp": "ask for FSDP2 in accelerate's configuration (accelerate launch --use_fsdp --fsdp_version 2)",
    "fsdp_config": "ask for FSDP2 in accelerate's configuration (accelerate launch --use_fsdp --fsdp_version 2)",
    "deepspeed": "it computes updates by itself, and the trainer does; FSDP2 divides the same things among GPUs",
    "accelerator_config": "it is about loaders and steps that accelerate counts; the stream deals micro-batches out itself",
    "parallelism_config": "models are trained whole; one process a GPU (torchrun)",
    "generation_config": "set generation_num_beams and generation_max_length, or the model's own generation configuration",
    "resume_from_checkpoint": "give it to train(resume_from_checkpoint=…), or paretokd train RUN --resume",
    "include_num_input_tokens_seen": "source and target tokens are counted and logged by themselves",
}
IDLE = {  # without meaning here; a warning when set
    "bf16_full_eval": "validation runs in the precision of the training",
    "fp16_full_eval": "validation runs in the precision of the training",
    "prediction_loss_only": "validation finds out losses, and translates where predict_with_generate asks for it",
    "eval_do_concat_batches": "validation keeps no logits",
    "eval_use_gather_object": "validation keeps no logits",
    "eval_accumulation_steps": "validation keeps no logits",
    "include_for_metrics": "compute_metrics is given translations, labels and the pair",
    "batch_eval_metrics": "compute_metrics is given all translations of a pair",
    "label_names": "labels are called labels",
    "length_column_name": "lengths are counted",
    "dataloader_drop_last": "the stream of micro-batches has no end",
    "dataloader_persistent_workers": "the stream of micro-batches has no end, so workers live as long as the training",
    "dataloader_multiprocessing_context": "workers are started as torch does by default",
    "dataloader_in_order": "micro-batches are always taken in order",
    "use_cache": "training does not cache; checkpoints are saved with the cache on",
    "enable_jit_checkpoint": "SIGTERM always saves",
    "hub_strategy": "models are pushed when they are finished",
    "hub_always_push": "models are pushed when they are finished",
    "hub_revision": "models are pushed to the main branch",
    "local_rank": "the launcher says which process this is",
    "do_train": "call train()",
    "do_eval": "call evaluate()",
    "do_predict": "call predict()",
}

# ---- parameters

PARAMETERS = {
    "model": "a model, its folder or Hub id; a list of them for peers",
    "args": "the configuration of the method; it is copied and never written to",
    "train_dataset": "a datasets.Dataset of token ids, or a dictionary of them by language pair",
    "eval_dataset": "the same",
    "processing_class": "the tokenizer; saved with every model",
    "callbacks": "as in the Trainer",
    "model_init": "what makes models, of a trial or of nothing, in place of `model`; then every train() begins anew",
    "compute_metrics": "from translations and labels of a pair to figures, with predict_with_generate; default: BLEU and chrF",
    "sampling": "a function from the share of the training that is done, and the sentence pairs of each pair, to P(ℓ)",
    "optimizers": "an optimizer over `trainer.model.parameters()`, and a schedule; (None, None) makes them",
}
REFUSED_PARAMETERS = {
    "optimizer_cls_and_kwargs": "Seq2SeqTrainer takes none; set optim and optim_args, or give optimizers",
    "tokenizer": "give it as processing_class",
    "data_collator": "micro-batches are padded as they are read; give token ids without padding",
    "compute_loss_func": "the loss is what a method is; derive from a method's joint model",
    "preprocess_logits_for_metrics": "logits are never kept",
}

OFF: dict[str, list[Any]] = {  # values that switch off what is refused, also as the Trainer's own configuration makes them
    "fsdp": ["", [], False, None],
    "fsdp_config": [{}, None],
    "deepspeed": ["", {}, None],
    "neftune_noise_alpha": [0],
    "include_num_input_tokens_seen": [False, "no"],
    "accelerator_config": [AcceleratorConfig()],
}

_warned: set[str] = set()


def changed(args: Seq2SeqTrainingArguments) -> list[str]:
    """The arguments that have other values than in transformers, those that are switched off aside."""
    found = []
    for item in dataclasses.fields(args):
        value = getattr(args, item.name)
        if item.name == "accelerator_config" and isinstance(value, dict) and value.keys() <= vars(AcceleratorConfig()).keys():
            value = AcceleratorConfig(**value)
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        if value != default and not (item.name in OFF and value in OFF[item.name]):
            found.append(item.name)
    return found


def check_refused(args: Seq2SeqTrainingArguments) -> None:
    """Refuses arguments that a training could not do as they say.

    Raises:
        TrainingError: names the argument, the reason and what to set instead.
    """
    for name in changed(args):
        if reason := REFUSED.get(name) or FIXED.get(name):
            raise TrainingError(f"{name}: {reason}")


def warn_of_idle(args: Seq2SeqTrainingArguments) -> None:
    """Warns once of each argument that means nothing."""
    for name in changed(args):
        if name in IDLE and name not in _warned:
            _warned.add(name)
            logger.warning(f"{name}: means nothing here; {IDLE[name]}")


def check_parameters(given: dict[str, Any], args: Seq2SeqTrainingArguments) -> None:
    """Refuses parameters of the trainer that mean something else here.

    Raises:
        TrainingError: names the parameter, the reason and what to do instead.
    """
    for name, reason in REFUSED_PARAMETERS.items():
        if given.pop(name, None) is not None:
            raise TrainingError(f"{name}: {reason}")
    if given.get("compute_metrics") is not None and not args.predict_with_generate:
        raise TrainingError("compute_metrics: needs predict_with_generate; logits are never kept")
    if not callable(given.get("compute_metrics", len)) and given["compute_metrics"] is not None:
        raise TrainingError("compute_metrics: is no function; give one, such as TranslationMetrics(tokenizer)")
    unknown = set(given) - set(PARAMETERS)
    if unknown:
        raise TypeError(f"the trainer has no parameter {sorted(unknown)[0]!r}")
