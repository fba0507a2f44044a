"""Small, good translation models from one training run, for Hugging Face Transformers."""

from hf_paretokd.data.corpus import DataConfig, load_text
from hf_paretokd.data.encoding import encode_split
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.tokenizer import train_tokenizer
from hf_paretokd.delivery.extract import save_students
from hf_paretokd.delivery.pipeline import TranslationPipeline, register_translation_pipeline
from hf_paretokd.evaluation.metrics import Chrf, SacreBleu
from hf_paretokd.evaluation.translation import translate
from hf_paretokd.methods.all_in_one import AllInOneConfig, AllInOneTrainer
from hf_paretokd.methods.pareto_mutual import ParetoMutualConfig, ParetoMutualTrainer
from hf_paretokd.methods.plain import PlainConfig, PlainTrainer
from hf_paretokd.models.building import ModelConfig, build_model
from hf_paretokd.models.depth import Depth, candidate_depths
from hf_paretokd.models.slicing import extract_student, sliced
from hf_paretokd.sharing.costs import choose_student
from hf_paretokd.sharing.push import push_run

__all__ = [
    "AllInOneConfig",
    "AllInOneTrainer",
    "Chrf",
    "DataConfig",
    "Depth",
    "LanguagePair",
    "ModelConfig",
    "ParetoMutualConfig",
    "ParetoMutualTrainer",
    "PlainConfig",
    "PlainTrainer",
    "SacreBleu",
    "TranslationPipeline",
    "build_model",
    "candidate_depths",
    "choose_student",
    "encode_split",
    "extract_student",
    "load_text",
    "push_run",
    "register_translation_pipeline",
    "save_students",
    "sliced",
    "train_tokenizer",
    "translate",
]

register_translation_pipeline()
