"""Frozen models that a training looks at: teachers, and models it is compared with."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.errors import ModelError
from hf_paretokd.models.files import load_model, load_tokenizer
from hf_paretokd.models.head import output_head
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.utils.machine import moved


def loaded_teacher(name: str) -> PreTrainedModel:
    """A teacher that is not trained.

    Raises:
        ModelError: it is missing or corrupt.
    """
    return load_model(name).requires_grad_(False).eval()


def check_same_head(field: str, name: str, teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    """Raises a ModelError if a teacher gives probabilities of other words than the student; names the field."""
    if len(output_head(teacher).matrix) != len(output_head(student).matrix):
        raise ModelError(f"{field}: {name} has another vocabulary than the student; take its tokenizer")


def settle_teacher(
    field: str, name: str, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, args: TranslationConfig
) -> None:
    """Puts a teacher where the training is.

    Raises:
        ModelError: its tokenizer has other entries than the student's.
    """
    if tokenizer is not None and load_tokenizer(name).get_vocab() != tokenizer.get_vocab():
        raise ModelError(f"{field}: {name} has another vocabulary than the student; set tokenizer.from_pretrained to it")
    moved(teacher, args.device)
    if args.device.type == "cpu":
        teacher.set_attn_implementation("eager")  # as the student's
