"""Where everything of a run and of a checkpoint lies: names and paths only; nothing is read or written here.

run/        recipe.yaml  results.json  comparisons.json  contamination.json  distilled.json  latency.json  frontier.json
            report.html  trainer_state.json  distillation_weights.json (peers)
tokenizer/  plots/  translations/SPLIT.PAIR/{source,reference,MODEL}.txt
checkpoints/checkpoint-N/   training state, and members as below
teacher/ | model/ | peers/1/ …    students/E-D/    peers/1/students/E-D/
a member    config.json  model.safetensors  tokenizer files  README.md
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_paretokd.errors import ModelError

# ---- a plain checkpoint, and what an export has beside it
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"  # of older repositories
GENERATION_SETTINGS = "generation_config.json"
TOKENIZER_SETTINGS = "tokenizer_config.json"
FAST_TOKENIZER = "tokenizer.json"  # of the library tokenizers
ADDED = "added_tokens.json"
VOCABULARY, TARGET_VOCABULARY = "vocab.json", "target_vocab.json"  # the second where the sides have their own
CARD = "README.md"
LOCK = ".lock"  # held by whoever writes a folder
MANIFEST = "manifest.json"  # sizes and checksums of a published folder
SOURCE_PIECES, TARGET_PIECES = "source.spm", "target.spm"  # of Marian tokenizers
CONVERTED_WEIGHTS = "model.bin"  # of CTranslate2
ONNX = "onnx"  # the folder of graphs in an export for ONNX Runtime
PROOF = "proof.json"
# what a plain checkpoint is made of and uploads take; training state, arguments and logs stay at home
PLAIN_CHECKPOINT = (
    CONFIG,
    GENERATION_SETTINGS,
    "*.safetensors",
    "*.safetensors.index.json",
    TOKENIZER_SETTINGS,
    FAST_TOKENIZER,
    "special_tokens_map.json",
    ADDED,
    VOCABULARY,
    TARGET_VOCABULARY,
    "merges.txt",
    "*.spm",
    "*.model",
)

# ---- the state of a training, in a checkpoint; the first two are also in the folder of a finished run
TRAINER_STATE = "trainer_state.json"
WEIGHTS_HISTORY = "distillation_weights.json"
SAMPLER_STATE = "sampler_state.json"
PROGRESS = "progress.json"
LIVE_WEIGHTS = "trained_weights.safetensors"  # where models are the average of their weights
BEST_COPY = "best-{}.safetensors"  # a model as it was after an epoch, which teaches it later on
IDENTITY = "training.json"  # what the training is
CHECKPOINT = "checkpoint"  # as the Trainer calls the folders

# ---- where members are
TEACHER, MODEL, PEER, STUDENT = "teacher", "model", "peer", "student"  # the kinds
ORIGINAL = "original"  # one that no training here has made: the model that exists, beside those made from it
PEERS, STUDENTS = "peers", "students"
MEMBERS = (
    TEACHER,
    MODEL,
    f"{PEERS}/[0-9]*",
    f"{STUDENTS}/[0-9]*-[0-9]*",
    f"{PEERS}/[0-9]*/{STUDENTS}/[0-9]*-[0-9]*",
)  # patterns of their folders

MEMBER = rf"({TEACHER}|{MODEL}|{PEERS}/\d+|({PEERS}/\d+/)?{STUDENTS}/\d+-\d+)"  # a member's folder
STEM = rf"({ORIGINAL}|{TEACHER}|{MODEL}|{PEER}-\d+|({PEER}-\d+-)?{STUDENT}-\d+-\d+)"  # of a member's files

PLOTS = ("latency", "size", "training", "validation", "frontier", "weights")
PICTURE, LINES = ".png", ".txt"  # endings of plots and of kept text
# ---- a distilled corpus
SHRUNK = "shrink.json"  # what was done to a model that exists before its family was trained
PROVENANCE = "distilled.json"  # how it was made; its presence says that it is finished
PLAN = "plan.json"  # what is being made, and of what
SHARDS = ".shards"  # what has been translated of one that is in the making
# ---- kept translations
SOURCE, REFERENCE = "source", "reference"
# ---- what a run has written into its folders, and nobody else
SET_ASIDE = ".set-aside"  # the end of a checkpoint's name that a training from before it does not need
PARTS = [re.escape(name).replace(r"\*", "[^/]*") for name in PLAIN_CHECKPOINT if not name.startswith("*.safetensors")]
WRITTEN_BELOW = (
    rf"checkpoints/(unfinished|{CHECKPOINT}-\d+({re.escape(SET_ASIDE)})?)",
    rf"plots/({'|'.join(PLOTS)}){re.escape(PICTURE)}",
    rf"translations/[^/.]+\.[^/]+-[^/]+/(({SOURCE}|{REFERENCE}){re.escape(LINES)}|{STEM}\.(txt|json))",  # the last are COMET's
    rf"(tokenizer|{MEMBER})/({'|'.join(PARTS)}|model(-\d+-of-\d+)?\.safetensors(\.index\.json)?|{re.escape(CARD)})",
)


def member_folder(kind: str, depth: object, peer: int | None) -> str:
    """Where a member lies in its run: `teacher`, `model`, `peers/1`, `students/6-2` or `peers/1/students/6-2`."""
    if kind == PEER:
        return f"{PEERS}/{peer}"
    if kind == STUDENT:
        return f"{PEERS}/{peer}/{STUDENTS}/{depth}" if peer else f"{STUDENTS}/{depth}"
    return kind


def member_place(parts: Sequence[str]) -> tuple[str, int | None]:
    """(kind, peer) of the member in a folder, from the last parts of its path."""
    *above, name = parts
    if above[-1:] == [STUDENTS]:
        nested = len(above) > 2 and above[-3] == PEERS and above[-2].isdigit()
        return STUDENT, int(above[-2]) if nested else None
    if above[-1:] == [PEERS] and name.isdigit():
        return PEER, int(name)
    return name, None


@dataclass(frozen=True)
class OnnxLayout:
    """The files of a model that was exported for ONNX Runtime.

    Args:
        folder: of the export.
        suffix: what their names end in, by what they are quantized to.
    """

    folder: Path
    suffix: str

    @classmethod
    def of(cls, folder: Path) -> "OnnxLayout":
        """That of a finished export.

        Raises:
            ModelError: there is none.
        """
        for path in sorted((folder / ONNX).glob("encoder_model*.onnx")):
            return cls(folder, path.stem.removeprefix("encoder_model"))
        raise ModelError(f"{folder}: holds no model for ONNX Runtime (onnx/encoder_model.onnx)")

    @property
    def encoder(self) -> Path:
        """The encoder."""
        return self.folder / ONNX / f"encoder_model{self.suffix}.onnx"

    @property
    def decoder(self) -> Path:
        """Both forms of the decoder."""
        return self.folder / ONNX / f"decoder_model_merged{self.suffix}.onnx"


@dataclass(frozen=True)
class TopLayout:
    """The paths of a folder with a teacher's best entries for the words of a language pair."""

    folder: Path

    @property
    def record(self) -> Path:
        """What they are of."""
        return self.folder / "source.json"

    def block(self, number: int) -> Path:
        """Those of a block of rows."""
        return self.folder / f"block-{number:06}"


@dataclass(frozen=True)
class RunLayout:
    """The paths of a run folder."""

    folder: Path

    @property
    def recipe(self) -> Path:
        """The recipe with all overrides."""
        return self.folder / "recipe.yaml"

    @property
    def results(self) -> Path:
        """All scores; its presence says that a run is finished."""
        return self.folder / "results.json"

    @property
    def comparisons(self) -> Path:
        """Paired tests."""
        return self.folder / "comparisons.json"

    @property
    def contamination(self) -> Path:
        """Test sentences in training text."""
        return self.folder / "contamination.json"

    @property
    def top(self) -> Path:
        """What is kept of teachers' entries, by language pair."""
        return self.folder / "top"

    @property
    def frontier(self) -> Path:
        """Averages over high- and low-resource pairs."""
        return self.folder / "frontier.json"

    @property
    def distilled(self) -> Path:
        """How the targets of the training text were made, if a model has made them."""
        return self.folder / PROVENANCE

    @property
    def shrunk(self) -> Path:
        """What was done to the model that the training started from, if it was shrunk."""
        return self.folder / SHRUNK

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.folder / "report.html"

    @property
    def new_tokenizer(self) -> Path:
        """Where a tokenizer is until the training begins."""
        return self.tokenizer.with_name(f".{self.tokenizer.name}.unfinished")

    @property
    def plots(self) -> Path:
        """Folder of pictures."""
        return self.folder / "plots"

    def plot(self, name: str) -> Path:
        """A picture: `latency`, `size`, `training`, `validation`, `frontier` or `weights`."""
        return self.plots / f"{name}{PICTURE}"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer that was trained for the run."""
        return self.folder / "tokenizer"

    @property
    def translations(self) -> Path:
        """Folder of the kept text and what the models made of it."""
        return self.folder / "translations"

    @property
    def checkpoints(self) -> Path:
        """Folder of `checkpoint-N` folders."""
        return self.folder / "checkpoints"

    @property
    def unfinished(self) -> Path:
        """Where the next checkpoint is written."""
        return self.checkpoints / "unfinished"

    @property
    def trainer_state(self) -> Path:
        """The Trainer's state with the log of the training."""
        return self.folder / TRAINER_STATE

    @property
    def log(self) -> Path:
        """The figures of the training, one JSON object a line, as they come."""
        return self.folder / "log.jsonl"

    @property
    def weights_history(self) -> Path:
        """Distillation weights over time."""
        return self.folder / WEIGHTS_HISTORY

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint after update `step`."""
        return self.checkpoints / f"{CHECKPOINT}-{step}"

    def latency(self, engine: str = "transformers", quantization: str = "float32") -> Path:
        """Measured times and sizes; engines other than transformers have files of their own."""
        return self.folder / ("latency.json" if engine == "transformers" else f"latency-{engine}-{quantization}.json")

    @property
    def folders(self) -> list[Path]:
        """All folders that a run may have made, whether they are there or not."""
        members = [self.folder / name for name in (TEACHER, MODEL, STUDENTS, PEERS)]
        return [self.checkpoints, self.tokenizer, *members, self.plots, self.translations]

    @property
    def own_files(self) -> list[str]:
        """Patterns of the files in the run folder itself that a run may have written."""
        files = [self.recipe, self.results, self.frontier, self.weights_history, self.comparisons, self.contamination]
        files += [self.distilled, self.shrunk, self.trainer_state, self.log, self.report]
        return [*(re.escape(path.name) for path in files), r"latency(-(ctranslate2|onnx)-\w+)?\.json"]

    def has_written(self, path: Path) -> bool:
        """Whether a path is one that a run may have written, which a new run in its place replaces."""
        return bool(re.fullmatch("|".join((*self.own_files, *WRITTEN_BELOW)), path.relative_to(self.folder).as_posix()))


@dataclass(frozen=True)
class StartLayout:
    """The paths of what is made before a model that exists is trained further."""

    folder: Path

    @classmethod
    def of(cls, run: Path) -> "StartLayout":
        """That of a run, beside it.

        Raises:
            ModelError: there is nothing beside the root of the disk.
        """
        run = run if run.name.strip(".") else run.resolve()
        if not run.name:
            raise ModelError(f"training.output_dir: {run} has nothing beside it; choose a folder below it")
        return cls(run.with_name(f"{run.name}.start"))

    @property
    def original(self) -> Path:
        """The model with its weights as safetensors."""
        return self.folder / "original"

    @property
    def distilled(self) -> Path:
        """Its translations."""
        return self.folder / "distilled"

    @property
    def model(self) -> Path:
        """The model with a smaller vocabulary."""
        return self.folder / "model"

    @property
    def text(self) -> Path:
        """The corpus of the training."""
        return self.folder / "text"

    @property
    def plan(self) -> Path:
        """With what it was begun."""
        return self.folder / PLAN

    @property
    def record(self) -> Path:
        """What was done."""
        return self.folder / SHRUNK

    @property
    def recipe(self) -> Path:
        """The recipe of the training; by another name than a run's, which the folder is not."""
        return self.folder / "training.yaml"


@dataclass(frozen=True)
class StoreLayout:
    """The paths of token ids of one language pair and split: `folder` when they are whole, beside it what is in the making."""

    folder: Path

    @property
    def counted(self) -> Path:
        """What became of the rows."""
        return self.folder / "counted.json"

    @property
    def facts(self) -> Path:
        """What a training has to know of all token ids."""
        return self.folder / "facts.json"

    @property
    def parts(self) -> Path:
        """Folder of shards in the making."""
        return self.folder.with_name(f"{self.folder.name}.parts")

    def ids(self, number: int, folder: Path | None = None) -> Path:
        """Token ids of a shard, as Arrow streams."""
        return (folder or self.parts) / f"{number:05d}.arrow"

    def keys(self, number: int, folder: Path | None = None) -> Path:
        """Keys of its rows."""
        return (folder or self.parts) / f"{number:05d}.keys.npy"

    def places(self, number: int) -> Path:
        """Which rows of the text they are."""
        return self.parts / f"{number:05d}.places.npy"

    def record(self, number: int) -> Path:
        """What is known of a shard; its presence says that it is finished."""
        return self.parts / f"{number:05d}.json"

    def lease(self, number: int | None = None) -> Path:
        """Held by the process that makes a shard, or puts all together."""
        return self.parts / ("whole.lease" if number is None else f"{number:05d}.lease")

    @property
    def leases(self) -> list[Path]:
        """All that are held."""
        return sorted(self.parts.glob("*.lease"))


def leases_in(cache: Path) -> list[Path]:
    """All leases of token ids in the making in a cache."""
    return sorted(cache.glob("*.parts/*.lease"))


@dataclass(frozen=True)
class ComparisonLayout:
    """The paths of a comparison of several runs."""

    folder: Path

    @property
    def results(self) -> Path:
        """All scores and tests."""
        return self.folder / "comparison.json"

    @property
    def picture(self) -> Path:
        """Scores against cost, and differences from the baseline."""
        return self.folder / f"comparison{PICTURE}"


def distilled_sides(folder: Path, source: str, target: str) -> tuple[Path, Path]:
    """The two files of a language pair in a distilled corpus."""
    place = folder / f"{source}-{target}"
    return place / f"train.{source}", place / f"train.{target}"


def distilled_shard(folder: Path, pair: str, number: int) -> Path:
    """Translations of some sources of a language pair, in a distilled corpus that is in the making."""
    return folder / SHARDS / f"{pair}.{number:05d}{LINES}"


def checkpoint_step(folder: str) -> int | None:
    """The update after which a `checkpoint-N` was written; None for folders of other names."""
    name, _, number = folder.rpartition("-")
    return int(number) if name == CHECKPOINT and number.isdecimal() else None


def kept_text(translations: Path, split: str, pair: str) -> Path:
    """The folder of one pair and split below a folder of translations."""
    return translations / f"{split}.{pair}"
