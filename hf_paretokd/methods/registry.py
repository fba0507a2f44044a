"""The methods there are; a method is known by its trainer, on which all facts about it stand."""

from hf_paretokd.errors import RecipeError
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.methods.all_in_one import AllInOneTrainer
from hf_paretokd.methods.lssd import LSSDTrainer
from hf_paretokd.methods.multi_distill import MultiDistillTrainer
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.methods.pareto_all_in_one import ParetoAllInOneTrainer
from hf_paretokd.methods.pareto_mutual import ParetoMutualTrainer
from hf_paretokd.methods.plain import PlainTrainer
from hf_paretokd.methods.word_kd import WordKDTrainer
from hf_paretokd.training.trainer import TranslationTrainer

METHODS: tuple[type[TranslationTrainer], ...] = (
    PlainTrainer,
    AllInOneTrainer,
    ParetoMutualTrainer,
    ParetoAllInOneTrainer,
    WordKDTrainer,
    LSSDTrainer,
    MultiDistillTrainer,
)
DEFAULT = AllInOneTrainer.method  # of recipes that name none
UNKNOWN = MethodFacts("Unknown", papers=PACKAGE)


def method_names() -> list[str]:
    """The names of all methods, as recipes have them."""
    return [trainer.method for trainer in METHODS]


def trainer_of(method: str) -> type[TranslationTrainer]:
    """The trainer of a method.

    Raises:
        RecipeError: there is no such method.
    """
    for trainer in METHODS:
        if trainer.method == method:
            return trainer
    raise RecipeError(f"method {method!r} is not one of {', '.join(method_names())}")


def facts_of(method: str) -> MethodFacts:
    """What is to be said of a method, also of one that nobody knows."""
    return trainer_of(method).facts if method in method_names() else UNKNOWN
