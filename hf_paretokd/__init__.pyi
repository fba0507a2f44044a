# The public names and where they live; `__init__.py` imports them from there when they are first used.
from hf_paretokd.data.corpus import DataConfig as DataConfig
from hf_paretokd.data.corpus import load_text as load_text
from hf_paretokd.data.encoding import encode_split as encode_split
from hf_paretokd.data.pairs import LanguagePair as LanguagePair
from hf_paretokd.data.tokenizer import train_tokenizer as train_tokenizer
from hf_paretokd.errors import DataError as DataError
from hf_paretokd.errors import ExportError as ExportError
from hf_paretokd.errors import FolderReadOnly as FolderReadOnly
from hf_paretokd.errors import ModelError as ModelError
from hf_paretokd.errors import ParetoKDError as ParetoKDError
from hf_paretokd.errors import RecipeError as RecipeError
from hf_paretokd.errors import TokenizerError as TokenizerError
from hf_paretokd.errors import TrainingError as TrainingError
from hf_paretokd.errors import TrainingInterrupted as TrainingInterrupted
from hf_paretokd.errors import UploadError as UploadError
from hf_paretokd.evaluation.metrics import Chrf as Chrf
from hf_paretokd.evaluation.metrics import SacreBleu as SacreBleu
from hf_paretokd.evaluation.metrics import TranslationMetrics as TranslationMetrics
from hf_paretokd.inference.decoding import translate as translate
from hf_paretokd.inference.pipeline import TranslationPipeline as TranslationPipeline
from hf_paretokd.inference.pipeline import register_translation_pipeline as register_translation_pipeline
from hf_paretokd.methods.all_in_one import AllInOneConfig as AllInOneConfig
from hf_paretokd.methods.all_in_one import AllInOneTrainer as AllInOneTrainer
from hf_paretokd.methods.lssd import LSSDConfig as LSSDConfig
from hf_paretokd.methods.lssd import LSSDTrainer as LSSDTrainer
from hf_paretokd.methods.pareto_all_in_one import ParetoAllInOneConfig as ParetoAllInOneConfig
from hf_paretokd.methods.pareto_all_in_one import ParetoAllInOneTrainer as ParetoAllInOneTrainer
from hf_paretokd.methods.pareto_mutual import ParetoMutualConfig as ParetoMutualConfig
from hf_paretokd.methods.pareto_mutual import ParetoMutualTrainer as ParetoMutualTrainer
from hf_paretokd.methods.plain import PlainConfig as PlainConfig
from hf_paretokd.methods.plain import PlainTrainer as PlainTrainer
from hf_paretokd.methods.word_kd import WordKDConfig as WordKDConfig
from hf_paretokd.methods.word_kd import WordKDTrainer as WordKDTrainer
from hf_paretokd.models.building import ModelConfig as ModelConfig
from hf_paretokd.models.building import build_model as build_model
from hf_paretokd.models.depth import Depth as Depth
from hf_paretokd.models.depth import candidate_depths as candidate_depths
from hf_paretokd.models.member import Member as Member
from hf_paretokd.models.slicing import extract_student as extract_student
from hf_paretokd.models.slicing import sliced as sliced
from hf_paretokd.runs.choose import choose_student as choose_student
from hf_paretokd.runs.extract import save_students as save_students
from hf_paretokd.runs.push import push_run as push_run
from hf_paretokd.runs.run import Run as Run

__all__: list[str]
__version__: str
