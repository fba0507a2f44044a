"""A page that translates in the browser: an export for ONNX Runtime with transformers.js, and nothing else."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import jinja2
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.languages import known_tags
from hf_paretokd.errors import ModelError
from hf_paretokd.models.head import is_marian
from hf_paretokd.utils.files import load_json, write_whole

PINNED = "https://cdn.jsdelivr.net/npm/@huggingface/transformers@4.3.2"  # what the page was tried with
LIBRARY = "transformers.min.js"
WASM = "ort-wasm-simd-threaded"  # of onnxruntime-web, which the library rests on; the build for CPUs alone
MODEL, RUNTIME, PAGE = "model", "runtime", "index.html"  # in the export


@dataclass(frozen=True)
class WebRuntime:
    """Where the files of transformers.js are.

    Args:
        library: the library itself.
        engine: both files of ONNX Runtime for browsers.
    """

    library: Path
    engine: tuple[Path, Path]

    @classmethod
    def of(cls, folder: Path) -> "WebRuntime":
        """Those in the folder of the npm package `@huggingface/transformers`, and of `onnxruntime-web` inside or beside it.

        Raises:
            ModelError: they are not there.
        """
        package = folder / "package.json"
        named = load_json(package) if package.is_file() else None
        if not isinstance(named, dict) or named.get("name") != "@huggingface/transformers":
            raise ModelError(
                f"--runtime {folder}: is not the folder of the npm package @huggingface/transformers, such as "
                "node_modules/@huggingface/transformers after npm install"
            )
        for modules in (folder / "node_modules", folder.resolve().parent.parent):
            engine = tuple(modules / "onnxruntime-web" / "dist" / f"{WASM}.{ending}" for ending in ("mjs", "wasm"))
            if all(path.is_file() for path in engine) and (folder / "dist" / LIBRARY).is_file():
                return cls(folder / "dist" / LIBRARY, (engine[0], engine[1]))
        raise ModelError(f"--runtime {folder}: lacks dist/{LIBRARY}, or onnxruntime-web/dist/{WASM}.wasm beside it")


def check_page(model: PreTrainedModel) -> None:
    """Raises a ModelError if the page cannot run a model."""
    if not is_marian(model):
        raise ModelError(f"web: the page runs Marian models, not {model.config.model_type}; take --to onnx and your own page")


def write_page(
    export: Path,
    tokenizer: PreTrainedTokenizerBase,
    title: str,
    quantization: str,
    size: int,
    room: int,
    runtime: WebRuntime | None,
) -> None:
    """Moves an export into its folder `model` and puts the page beside it.

    Args:
        export: the folder.
        tokenizer: the model's.
        title: of the page.
        quantization: of the weights.
        size: of the weights in bytes.
        room: tokens of an output, at most.
        runtime: what is copied beside it; without, the page takes it from a pinned address, and says so.
    """
    inside = export.with_name(f"{export.name}.model")
    export.rename(inside)
    export.mkdir()
    inside.rename(export / MODEL)
    if runtime:
        (export / RUNTIME).mkdir()
        for path in (runtime.library, *runtime.engine):
            shutil.copy(path, export / RUNTIME / path.name)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    text = environment.from_string(Path(__file__).with_name("web.html").read_text("utf-8")).render(
        title=title,
        targets=[tag[2:-2] for tag in known_tags(tokenizer)],
        megabytes=f"{size / 1e6:.1f}",
        quantization=quantization,
        local=runtime is not None,
        runtime=f"./{RUNTIME}/{LIBRARY}" if runtime else PINNED,
        wasm=WASM,
        room=room - 1,  # beside the token that it starts from
        bytes="<0x00>" in tokenizer.get_vocab(),
    )
    write_whole(export / PAGE, text)
