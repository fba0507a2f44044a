"""What a trainer is given, and whether it fits: arguments, models, a tokenizer, callbacks, an optimizer."""

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from transformers import EarlyStoppingCallback, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from hf_paretokd.data.batches import longest_side
from hf_paretokd.data.encoding import Pairs, check_known, check_no_padding
from hf_paretokd.data.facts import known_facts
from hf_paretokd.errors import DataError, ModelError, TrainingError
from hf_paretokd.models.files import load_model, load_tokenizer, position_limit
from hf_paretokd.models.joint import JointModel
from hf_paretokd.training.arguments import TranslationConfig

Source = PreTrainedModel | str | os.PathLike[str]  # a model, or the folder or Hub id of one


def check_kind(args: Any, kind: type[TranslationConfig]) -> None:
    """Raises a TrainingError if a configuration is that of something else."""
    if not isinstance(args, kind):
        given = f"the class {args.__name__}" if isinstance(args, type) else f"a {type(args).__name__}"
        raise TrainingError(f"args: is {given}; give a {kind.__name__}(…)")


def check_callbacks(callbacks: Any, args: TranslationConfig) -> list[Any]:
    """The callbacks as a list.

    Raises:
        TrainingError: one is none, or waits for validations that never come.
    """
    found = list(callbacks or []) if isinstance(callbacks, Iterable | None) else [callbacks]
    for each in found:
        kind = each if isinstance(each, type) else type(each)
        if not issubclass(kind, TrainerCallback):
            raise TrainingError(f"callbacks: a {kind.__name__} is no TrainerCallback")
        if issubclass(kind, EarlyStoppingCallback) and args.eval_strategy == "no":
            raise TrainingError("callbacks: EarlyStoppingCallback needs validations; set eval_strategy to steps")
        if issubclass(kind, EarlyStoppingCallback) and not args.metric_for_best_model:
            raise TrainingError("callbacks: EarlyStoppingCallback needs metric_for_best_model, such as loss")
    return found


def check_source_of_models(model: Any, model_init: Any, optimizers: Any) -> None:
    """Raises a TrainingError unless there is one source of models, which an optimizer may know."""
    if (model is None) == (model_init is None):
        raise TrainingError("model: give a model, or model_init that makes one, and not both")
    if model_init is None:
        return
    if any(each is not None for each in optimizers or ()):
        raise TrainingError("optimizers: of new models, as model_init makes them, an optimizer made before knows nothing")
    if not callable(model_init) or isinstance(model_init, torch.nn.Module):
        raise TrainingError("model_init: is no function; give one that makes models, or give the model as `model`")
    if len(positional(model_init)) > 1:
        raise TrainingError("model_init: takes more than a trial; give a function of the trial, or of nothing")


def positional(function: Callable[..., Any]) -> list[str]:
    """The parameters of a function that may be given by their position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [name for name, each in inspect.signature(function).parameters.items() if each.kind in kinds]


def check_tokenizer(tokenizer: Any) -> None:
    """Raises a TrainingError if what was given as `processing_class` is no tokenizer, nor one for each peer."""
    for each in tokenizer if isinstance(tokenizer, list | tuple) and tokenizer else [tokenizer]:
        if each is not None and not isinstance(each, PreTrainedTokenizerBase):
            raise TrainingError(
                f"processing_class: a {type(each).__name__} is no tokenizer; give one, such as AutoTokenizer.from_pretrained(…)"
            )


def check_reports(args: TranslationConfig) -> None:
    """Raises a TrainingError if there is no such integration as `report_to` names, or it is not installed."""
    try:
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()
    except (ValueError, RuntimeError, ImportError) as error:
        raise TrainingError(f"report_to: {' '.join(str(error).split())}") from error


def check_prefix(prefix: Any) -> None:
    """Raises a TrainingError if the prefix of figures is no text."""
    if not isinstance(prefix, str) or not prefix:
        raise TrainingError(f"metric_key_prefix: {prefix!r} is no text; give such as eval")


def initial_models(model_init: Callable[..., Any], trial: Any, before: Sequence[Any]) -> Any:
    """What `model_init` makes, of a trial if it takes one.

    Raises:
        ModelError: that is nothing, or one of the models that it made `before`.
    """
    made = model_init(trial) if positional(model_init) else model_init()
    if made is None:
        raise ModelError("model_init: returned nothing; return a model, or a list of peers")
    if any(each is old for each in listed(made) for old in before):
        raise ModelError("model_init: returned a model that it had returned before; make a new one each time")
    return made


def check_best_metric(args: TranslationConfig, known: Sequence[str]) -> None:
    """Raises a TrainingError if the figure that decides which checkpoint is best is not among those of a validation."""
    wanted = args.metric_for_best_model
    if wanted and args.eval_strategy != "no" and wanted.removeprefix("eval_") not in known:
        raise TrainingError(
            f"metric_for_best_model: {wanted!r} is nothing that a validation finds out; it can be one of {', '.join(known)}"
        )


def check_validations(args: TranslationConfig, text: Pairs, updates: int) -> None:
    """Raises a TrainingError where validations are wanted and have no text, or begin after a training of `updates`."""
    if args.eval_strategy == "no":
        return
    if not text:
        raise TrainingError("eval_dataset: is missing; give validation text, or set eval_strategy to no")
    if 0 < updates < args.eval_delay:
        raise TrainingError(
            f"eval_delay: {args.eval_delay:g} updates, after which there is no validation left of {updates} updates; lower it, "
            "or set eval_strategy to no"
        )


def check_optimizers(given: Any, joint: JointModel) -> torch.optim.Optimizer | None:
    """The optimizer that was given with its schedule, or none.

    Raises:
        TrainingError: these are no optimizer and schedule, or they do not train these models.
    """
    if given is None:
        return None
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TrainingError("optimizers: give a pair of an optimizer and a schedule, or None for either")
    optimizer, schedule = given
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise TrainingError(f"optimizers: {optimizer!r} is no optimizer; give one made over the models' parameters")
    trained = {id(parameter) for group in (optimizer.param_groups if optimizer else ()) for parameter in group["params"]}
    known = {id(parameter) for parameter in joint.parameters()}
    if optimizer is not None and not (trained and trained <= known):
        raise TrainingError("optimizers: the optimizer is of other parameters than those of the models; make it over these")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TrainingError("optimizers: LBFGS evaluates an update several times, which a stream of text cannot; take another")
    if schedule is not None and not isinstance(schedule, LRScheduler | ReduceLROnPlateau):
        raise TrainingError(f"optimizers: a {type(schedule).__name__} is no schedule; give one made over the optimizer")
    if schedule is not None and getattr(schedule, "optimizer", optimizer) is not optimizer:
        raise TrainingError("optimizers: the schedule is of another optimizer than the one given with it")
    return optimizer


def check_ids(models: Sequence[PreTrainedModel], pairs: Pairs) -> None:
    """Raises a DataError if text holds ids that the models do not know, padding, or sentences beyond their positions."""
    embeddings: list[Any] = [model.get_input_embeddings() for model in models]
    check_known(pairs, min(each.weight.shape[0] for each in embeddings))
    limit = min((known for model in models if (known := position_limit(model.config))), default=None)
    for name, dataset in pairs.items() if limit else ():
        facts = known_facts(dataset)
        longest = facts.longest if facts else longest_side(dataset)
        if longest > (limit or 0):
            raise DataError(
                f"{name}: a sentence has {longest} tokens, the model's position table only {limit}; lower data.max_length"
            )
    check_no_padding(pairs, models[0].config.pad_token_id)


def listed(model: Any) -> list[Source]:
    """A model, or several, as a list."""
    return list(model) if isinstance(model, Sequence) and not isinstance(model, str) else [model]


def lone(models: Sequence[PreTrainedModel]) -> PreTrainedModel:
    """The one model of a method that trains one.

    Raises:
        ModelError: there are several.
    """
    if len(models) != 1:
        raise ModelError(f"{len(models)} models were given, but one is trained; give that one")
    return models[0]


def common_tokenizer(
    tokenizers: PreTrainedTokenizerBase | Sequence[PreTrainedTokenizerBase] | None,
) -> PreTrainedTokenizerBase | None:
    """The tokenizer of all models.

    Raises:
        ModelError: several were given, and they are not the same.
    """
    if not isinstance(tokenizers, Sequence):
        return tokenizers
    if any(other.get_vocab() != tokenizers[0].get_vocab() for other in tokenizers[1:]):
        raise ModelError("peers have different tokenizers: teachers and students must speak of the same vocabulary")
    return tokenizers[0]


def loaded_models(
    models: Sequence[Source], tokenizer: PreTrainedTokenizerBase | None
) -> tuple[list[PreTrainedModel], PreTrainedTokenizerBase | None]:
    """Models to train, those named by a folder or Hub id loaded; and the tokenizer, if none was given that of the first named.

    Raises:
        ModelError, TokenizerError: a checkpoint cannot be loaded.
    """
    named = [each for each in models if not isinstance(each, PreTrainedModel)]
    for each in named:
        if not isinstance(each, str | os.PathLike):
            raise ModelError(f"model: a {type(each).__name__} is no model; give a PreTrainedModel, or its folder or Hub id")
    found = [each if isinstance(each, PreTrainedModel) else load_model(os.fspath(each)) for each in models]
    return found, tokenizer if tokenizer is not None or not named else load_tokenizer(os.fspath(named[0]))
