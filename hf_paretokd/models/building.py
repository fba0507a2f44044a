"""New Marian models and existing checkpoints, ready to be trained."""

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from transformers import GenerationConfig, MarianConfig, MarianMTModel, PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.errors import ModelError, RecipeError
from hf_paretokd.models.files import check_vocabulary, load_model, local_checkpoint
from hf_paretokd.models.head import is_marian, secure_pad_row
from hf_paretokd.models.slicing import layer_list

RESIDUAL_BRANCHES = ("fc1", "fc2", "v_proj", "out_proj")
OWN = ("from_pretrained", "revision", "subfolder", "initialisation")  # fields that transformers does not know
INITIALISATIONS = ("residual", "fairseq", "transformers")


SIZES = (
    *("encoder_layers", "decoder_layers", "d_model", "encoder_attention_heads", "decoder_attention_heads"),
    *("encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings"),
)  # of a new model


@dataclass
class ModelConfig:
    """Shape of a new Marian model, or the checkpoint to start from.

    Args:
        from_pretrained: folder or Hub id of a checkpoint to start from; all fields of a new model are ignored then.
        revision: branch, tag or commit on the Hub.
        subfolder: of the checkpoint in that folder or repository.
        encoder_layers: layers N of the encoder.
        decoder_layers: layers N of the decoder.
        d_model: width of the hidden states.
        encoder_attention_heads: heads in the encoder.
        decoder_attention_heads: heads in the decoder.
        encoder_ffn_dim: width of the encoder's feed-forward layers.
        decoder_ffn_dim: width of the decoder's feed-forward layers.
        dropout: dropout on embeddings and residual branches.
        attention_dropout: dropout on attention weights.
        activation_dropout: dropout inside the feed-forward layers.
        activation_function: of the feed-forward layers.
        max_position_embeddings: rows of the position table: the longest input and output in tokens.
        initialisation: `residual` (default), `fairseq` or `transformers`, see `initialise`.
    """

    from_pretrained: str | None = None
    revision: str | None = None
    subfolder: str | None = None
    encoder_layers: int = 6
    decoder_layers: int = 6
    d_model: int = 512
    encoder_attention_heads: int = 8
    decoder_attention_heads: int = 8
    encoder_ffn_dim: int = 2048
    decoder_ffn_dim: int = 2048
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    activation_function: str = "relu"
    max_position_embeddings: int = 512
    initialisation: str = "residual"

    def __post_init__(self) -> None:
        if self.initialisation not in INITIALISATIONS:
            raise RecipeError(f"model.initialisation: {self.initialisation!r} is not one of {', '.join(INITIALISATIONS)}")
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"model.{name}: {getattr(self, name)} is not between 0 and 1")
        for name in SIZES:
            if getattr(self, name) < 1:
                raise RecipeError(f"model.{name}: {getattr(self, name)} is not 1 or more")
        for side in ("encoder", "decoder"):
            heads = getattr(self, f"{side}_attention_heads")
            if self.d_model % heads:
                raise RecipeError(f"model.d_model: {self.d_model} is not a multiple of the {heads} {side}_attention_heads")
        for name in ("revision", "subfolder"):
            if getattr(self, name) and not self.from_pretrained:
                raise RecipeError(f"model.{name}: is of a checkpoint; name it as model.from_pretrained")

    @cached_property
    def checkpoint(self) -> str | None:
        """Where the checkpoint can be loaded from.

        Raises:
            ModelError: as `local_checkpoint`.
        """
        if not self.from_pretrained or not (self.revision or self.subfolder):
            return self.from_pretrained
        return local_checkpoint(self.from_pretrained, self.revision, self.subfolder)


def build_model(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A model to train: new with a seeded initialisation, or from a checkpoint.

    Raises:
        ModelError: the checkpoint cannot be read, or its vocabulary is not the tokenizer's.
    """
    if config.checkpoint:
        model = load_model(config.checkpoint)
    else:
        model = new_model(config, len(tokenizer), tokenizer.eos_token_id, seed)
    check_vocabulary(model, tokenizer)
    prepare_for_training(model)
    return model


def new_model(config: ModelConfig, entries: int, eos_token_id: int, seed: int) -> MarianMTModel:
    """A Marian model with a seeded initialisation; `<pad>` is the last of its `entries`."""
    pad = entries - 1
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name not in OWN}
    marian = MarianConfig(
        vocab_size=entries,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=eos_token_id,
        forced_eos_token_id=eos_token_id,
        bos_token_id=None,
        scale_embedding=True,
        **fields,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MarianMTModel(marian)
        initialise(model, config.initialisation)
    # four beams are what the translation pipeline of transformers 4 takes when nothing is said
    model.generation_config = GenerationConfig(
        max_length=config.max_position_embeddings,
        num_beams=4,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=eos_token_id,
        forced_eos_token_id=eos_token_id,
        bad_words_ids=[[pad]],
    )
    return model


def prepare_for_training(model: PreTrainedModel) -> None:
    """Secures the row of `<pad>`, freezes computed position tables, which loading a checkpoint thaws, and keeps all layers.

    mBART and M2M100 leave layers out at random in training (`layerdrop`): then a depth would be another every time.

    Raises:
        ModelError: `<pad>` is not where Marian needs it, or its sides have vocabularies of different sizes.
    """
    secure_pad_row(model)
    if is_marian(model):
        source, target = (stack.embed_tokens.num_embeddings for stack in (model.get_encoder(), model.get_decoder()))
        if source != target:
            raise ModelError(
                f"Marian checkpoint: its vocabularies have {source} and {target} entries; paretokd shrink levels them"
            )
    for stack in (model.get_encoder(), model.get_decoder()):
        if getattr(stack, "layerdrop", 0):
            stack.layerdrop = 0.0
    for name in model._keys_to_ignore_on_save or ():
        if name in dict(model.named_parameters()):
            model.get_parameter(name).requires_grad_(False)  # never gets a gradient: DistributedDataParallel would stop


@torch.no_grad()
def initialise(model: MarianMTModel, scheme: str) -> None:
    """Re-draws the weights of a new Marian model.

    Marian is post-norm: with the usual schemes the residual branches drown the identity path, and a deep model is slow to
    learn to read the source at all (measured in docs/initialisation.md). `residual` draws embeddings from N(0, 1/d) and
    matrices Xavier-uniformly, then scales the matrices on the residual branches (values, attention outputs, feed-forward)
    by (2N)^-0.5 for N layers on that side. `fairseq` draws the same without that factor,
    query, key and value matrices with gain 2^-0.5.
    `transformers` leaves the library's default, N(0, 0.02²).
    """
    if scheme == "transformers":
        return
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not model.lm_head:
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for embedding in {model.get_encoder().embed_tokens, model.get_decoder().embed_tokens}:
        nn.init.normal_(embedding.weight, std=model.config.d_model**-0.5)
        embedding.weight[model.config.pad_token_id] = 0
    for stack in (model.get_encoder(), model.get_decoder()):
        layers = getattr(stack, layer_list(stack))
        for name, module in layers.named_modules():
            kind = name.rpartition(".")[2]
            if scheme == "residual" and kind in RESIDUAL_BRANCHES:
                module.weight *= (2 * len(layers)) ** -0.5
            elif scheme == "fairseq" and kind in ("q_proj", "k_proj", "v_proj"):
                module.weight *= math.sqrt(0.5)
