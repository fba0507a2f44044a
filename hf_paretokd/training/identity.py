"""What a training is: the record that every checkpoint holds, and by which a resumed training is the same one."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.errors import ModelError
from hf_paretokd.training.arguments import TranslationConfig, own_fields
from hf_paretokd.training.signature import training_signature
from hf_paretokd.utils.files import typed_json

DECIDING = (  # arguments of all methods that decide what comes out, beside those of the method itself
    *("max_steps", "max_tokens", "temperatures", "seed", "label_smoothing_factor", "label_smoothing_variant"),
    *(
        "optim",
        "optim_args",
        "optim_target_modules",
        "learning_rate",
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_steps",
    ),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "skip_nonfinite_updates"),
    *("ema_decay", "unimax_epochs"),
)
SHORT = ("preset", "teachers", "anchor", "sampler_baseline")  # arguments of methods that stand for what is recorded otherwise

CIRCUMSTANCES = (  # arguments that may change from one part of a training to the next, and are named if they do
    *("gradient_accumulation_steps", "dataloader_num_workers", "loss_memory", "torch_compile", "gradient_checkpointing"),
    *("eval_strategy", "eval_steps", "save_strategy", "save_steps", "save_total_limit", "logging_steps", "output_dir"),
    *("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
)
SHAPE = (  # of the models, as far as families name it so
    *("model_type", "vocab_size", "d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads"),
    *("decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim", "dropout", "attention_dropout"),
    *("activation_dropout", "activation_function", "max_position_embeddings", "dropout_rate"),
)
ASIDE = (  # of configurations: what says nothing about what is computed
    *("transformers_version", "architectures", "dtype", "torch_dtype", "use_cache", "return_dict", "output_hidden_states"),
    *("output_attentions", "id2label", "label2id", "problem_type", "chunk_size_feed_forward", "name_or_path"),
)
LIBRARIES = ("hf_paretokd", "torch", "transformers", "accelerate")


@dataclass
class Identity:
    """The record of a training.

    Args:
        signature: the fields of the signature, in its order; `data` and `version` among them.
        decides: everything that decides the training: another value is another training.
        circumstances: what may change: where and with what it runs, what is logged, saved and validated.
        kept: what follows from the rest at the start and stays when the training is made longer, such as a border of stages.
        extensions: [update, further updates] of every time it was made longer on purpose, or a stage of it ended early.
    """

    signature: dict[str, Any]
    decides: dict[str, Any]
    circumstances: dict[str, Any]
    kept: dict[str, Any] = field(default_factory=dict)
    extensions: list[list[int]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The signature as one line: `method:all_in_one|depth:6-6|…|data:…|record:…|version:…`."""
        return training_signature(self.signature)

    @property
    def planned(self) -> int:
        """How many updates it was to have before it was made longer."""
        return self.decides["max_steps"] - sum(steps for _, steps in self.extensions)

    def extended(self, update: int, steps: int) -> "Identity":
        """The same training, made `steps` updates longer (or shorter) after `update`; its signature names both parts."""
        signature = {**self.signature, "updates": f"{self.signature['updates']}{steps:+d}"}
        decides = {**self.decides, "max_steps": self.decides["max_steps"] + steps}
        return dataclasses.replace(self, signature=signature, decides=decides, extensions=[*self.extensions, [update, steps]])


def plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return json.loads(json.dumps(value, default=str))


def identity_of(
    args: TranslationConfig,
    models: Sequence[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase | None,
    signature: Mapping[str, Any],
    more: Mapping[str, Any],
    kept: Mapping[str, Any],
    data: tuple[str, Mapping[str, str]],
    validation: Mapping[str, str],
    precision: str,
) -> Identity:
    """The record of a training about to begin.

    Args:
        args: its arguments.
        models: one a peer.
        tokenizer: of all of them.
        signature: the fields of the signature that come before `data`.
        more: what else decides, by the method's own account.
        kept: see `Identity`.
        data: hashes of the whole training text and of that of each pair.
        validation: hashes of the validation text of each pair, by which checkpoints are compared and weights searched.
        precision: the one that is really used: `no`, `bf16` or `fp16`.
    """
    whole, by_pair = data
    decides = {name: getattr(args, name) for name in deciding_arguments(type(args))}
    decides |= {
        "precision": precision,
        "micro-batches of an update": args.gradient_accumulation_steps * args.world_size,
        **shapes(models),
        "tokenizer": vocabulary_hash(tokenizer) if tokenizer is not None else None,
        "text": by_pair,
        "validation text": validation,
        **more,
    }
    circumstances = {name: getattr(args, name) for name in CIRCUMSTANCES}
    circumstances |= {"processes": args.world_size, "device": args.device.type}
    circumstances |= {name: version(name) for name in LIBRARIES}
    rest = digest(plain({**decides, "initial weights": [weights_hash(model) for model in models]}))
    signed = {**signature, "data": whole, "record": rest, "version": version("hf_paretokd")}
    return Identity(plain(signed), plain(decides), plain(circumstances), plain(kept))


def read_identity(path: Path) -> Identity:
    """The record of a checkpoint.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        found: Identity = typed_json(Identity, path)
        if not {"method", "max_steps"} <= set(found.decides):
            raise ValueError("it says neither method nor max_steps")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); take another checkpoint") from error
    return found


def digest(value: Any) -> str:
    """Eight hexadecimal digits of a value, as JSON has it."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:8]


def weights_hash(model: PreTrainedModel) -> str:
    """Eight hexadecimal digits of all parameters."""
    found = hashlib.sha256()
    for name, parameter in model.named_parameters():
        found.update(name.encode())
        found.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:8]


def deciding_arguments(kind: type[TranslationConfig]) -> list[str]:
    """The names of a method's arguments that decide the training."""
    own = [item.name for item in own_fields(kind)]
    return [*DECIDING, *(name for name in own if name not in (*DECIDING, *CIRCUMSTANCES, *SHORT))]


def shapes(models: Sequence[PreTrainedModel]) -> dict[str, Any]:
    """What the configurations say of the models, under names of their own if there are several."""
    found: dict[str, Any] = {}
    for number, model in enumerate(models, 1):
        prefix = f"peer {number} " if len(models) > 1 else ""
        found |= {prefix + name: getattr(model.config, name) for name in SHAPE if hasattr(model.config, name)}
        others = {name: value for name, value in model.config.to_dict().items() if name not in (*SHAPE, *ASIDE)}
        found[prefix + "configuration"] = {name: value for name, value in others.items() if not name.startswith("_")}
    return found


def vocabulary_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Eight hexadecimal digits that depend on every entry and its id."""
    return digest(sorted(tokenizer.get_vocab().items()))


def without_later(now: Mapping[str, Any], old: Mapping[str, Any], args: TranslationConfig) -> dict[str, Any]:
    """What decides, without arguments that the record of an older version does not know and that change nothing."""
    defaults = {item.name: item.default for item in dataclasses.fields(args)}
    return {name: value for name, value in now.items() if name in old or name not in defaults or value != defaults[name]}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What is another than it was, each with its old and new value: `learning_rate was 0.001, now 0.002`."""
    found = []
    for name in dict.fromkeys((*old, *new)):
        if name in ("text", "validation text"):
            found += text_differences(name, old.get(name) or {}, new.get(name) or {})
        elif name.endswith("configuration"):  # fields that one version of transformers has more than another are left aside
            before, now = old.get(name) or {}, new.get(name) or {}
            common = [each for each in before if each in now and before[each] != now[each]]
            found += [f"{name}.{each} was {shown(before[each])}, now {shown(now[each])}" for each in common]
        elif old.get(name) != new.get(name):
            found.append(f"{name} was {shown(old.get(name))}, now {shown(new.get(name))}")
    return found


def text_differences(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The same for hashes of text by pair, whose order counts where they are drawn from."""
    what = "the pair" if name == "text" else f"the {name} of"
    found = [f"{what} {pair} is gone" for pair in old if pair not in new]
    found += [f"{what} {pair} is new" for pair in new if pair not in old]
    found += [f"the {name} of {pair} was {old[pair]}, now {new[pair]}" for pair in old if new.get(pair, old[pair]) != old[pair]]
    if name == "text" and not found and list(old) != list(new):
        found.append(f"the order of pairs, by which they are drawn, was {', '.join(old)}, now {', '.join(new)}")
    return found


def shown(value: Any) -> str:
    """A value in an error."""
    return "nothing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
