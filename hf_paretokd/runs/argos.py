"""Packages for Argos Translate and LibreTranslate: an export for CTranslate2 with its SentencePiece model, zipped."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from hf_paretokd.data.languages import Direction
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.errors import ModelError
from hf_paretokd.layout import CONFIG, CONVERTED_WEIGHTS, SOURCE_PIECES, TARGET_PIECES
from hf_paretokd.models.head import is_marian
from hf_paretokd.utils.files import load_json, save_json

PACKAGE, NEEDS = "1.0", "1.9"  # versions: of the package, and of Argos Translate
ROOM = 1024  # positions, because nothing there keeps text or output below what a model has


def check_packages(model: PreTrainedModel, told: Mapping[LanguagePair, Direction], folder: Path) -> None:
    """Raises a ModelError if Argos Translate cannot run a model.

    Args:
        model: the model.
        told: what it is told of its pairs.
        folder: the checkpoint.
    """
    if not is_marian(model):
        raise ModelError(f"argos: its packages hold Marian models here, not {model.config.model_type}")
    if not told:
        raise ModelError("argos: a package is of a language pair; name the model's, such as --data.pairs de-en")
    if tagged := next((pair for pair, direction in told.items() if direction.before), None):
        raise ModelError(f"argos: a package cannot tell a model its target ({tagged}); export one of a single target language")
    if (folder / SOURCE_PIECES).read_bytes() != (folder / TARGET_PIECES).read_bytes():
        raise ModelError("argos: a package has one SentencePiece model for both sides; train with tokenizer.joint")


def make_room(checkpoint: Path) -> None:
    """Gives a Marian checkpoint more positions, which are computed and not learnt."""
    config = load_json(checkpoint / CONFIG)
    room = max(ROOM, config["max_position_embeddings"])
    save_json({**config, "max_position_embeddings": room}, checkpoint / CONFIG)


def write_packages(export: Path, pairs: Sequence[LanguagePair]) -> None:
    """Leaves one package a language pair of an export for CTranslate2, each to be installed by itself.

    Args:
        export: its folder, tokenizer included.
        pairs: what the model translates.
    """
    everything = sorted(export.iterdir())
    names = (CONFIG, CONVERTED_WEIGHTS)
    converted = [path for path in everything if path.name in names or path.name.endswith("_vocabulary.json")]
    for pair in pairs:
        name = f"{pair.source}_{pair.target}"
        facts = {"package_version": PACKAGE, "argos_version": NEEDS, "type": "translate"}
        for side, language in (("from", pair.source), ("to", pair.target)):
            facts |= {f"{side}_code": language, f"{side}_name": language}
        path = export / f"translate-{name}-{PACKAGE.replace('.', '_')}.argosmodel"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
            package.writestr(f"{name}/metadata.json", json.dumps(facts, indent=2))
            package.write(export / SOURCE_PIECES, f"{name}/sentencepiece.model")
            for file in converted:
                package.write(file, f"{name}/model/{file.name}")
    for file in everything:
        file.unlink()
