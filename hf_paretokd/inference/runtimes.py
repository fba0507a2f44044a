"""What a plain checkpoint can be exported for: how it is converted, and what decodes with the result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from hf_paretokd.errors import ModelError
from hf_paretokd.inference import ctranslate, onnx
from hf_paretokd.inference.ctranslate import Decoder
from hf_paretokd.layout import CONVERTED_WEIGHTS, ONNX


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    Args:
        title: as it is called.
        check: raises a ModelError if it is not installed, or knows no such quantization.
        convert: turns a checkpoint into folders that are not there yet, by quantization.
        decoder: what decodes with such a folder.
        weights: pattern of the files that hold the weights.
    """

    title: str
    check: Callable[[str], None]
    convert: Callable[[Path, Mapping[str, Path]], None]
    decoder: Callable[[Path, PreTrainedTokenizerBase], Decoder]
    weights: str

    def size(self, folder: Path) -> int:
        """Bytes of the weights."""
        return sum(path.stat().st_size for path in folder.glob(self.weights))


RUNTIMES: Mapping[str, Runtime] = {
    "ctranslate2": Runtime(
        "CTranslate2", ctranslate.check_quantization, ctranslate.convert_each, ctranslate.ctranslate_decoder, CONVERTED_WEIGHTS
    ),
    "onnx": Runtime("ONNX Runtime", onnx.check_quantization, onnx.convert_each, onnx.onnx_decoder, f"**/{ONNX}/*.onnx"),
}


BENEATH = {"web": "onnx", "argos": "ctranslate2"}  # what else an export is for, by its runtime


def runtime_of(name: str) -> Runtime:
    """The runtime of what an export is for.

    Raises:
        ModelError: there is none.
    """
    if (found := BENEATH.get(name, name)) not in RUNTIMES:
        raise ModelError(f"to: {name!r} is not one of {', '.join([*RUNTIMES, *BENEATH])}")
    return RUNTIMES[found]
