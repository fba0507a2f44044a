"""ONNX Runtime: export of a plain checkpoint in the layout of optimum and transformers.js, and greedy search with it."""

import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, PreTrainedTokenizerBase

from hf_paretokd.data.languages import Direction, generation_arguments
from hf_paretokd.errors import ModelError
from hf_paretokd.inference.ctranslate import Decoder
from hf_paretokd.layout import CONFIG, OnnxLayout
from hf_paretokd.models.files import load_model
from hf_paretokd.utils.files import load_json, save_json
from hf_paretokd.utils.quiet import quiet_files

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
SUFFIXES = {"float32": "", "int8": "_quantized", "float16": "_fp16"}  # of files, as transformers.js names them
TYPES = {"float32": "fp32", "int8": "q8", "float16": "fp16"}  # the same as it asks for them
PAST, PRESENT = "past_key_values", "present"


def check_installed() -> None:
    """Raises a ModelError if one of the packages is missing."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ModelError(f"{missing[0]} is not installed (pip install 'hf_paretokd[onnx]')")


def check_quantization(quantization: str) -> None:
    """Raises a ModelError if a package is missing, or graphs cannot be quantized so."""
    check_installed()
    if quantization not in SUFFIXES:
        raise ModelError(f"quantization: {quantization!r} is not one of {', '.join(SUFFIXES)}, those of onnx")


def convert_each(checkpoint: Path, folders: Mapping[str, Path]) -> None:
    """Exports a plain checkpoint in several quantizations, each into a folder that must not be there yet.

    It gets `onnx/encoder_model.onnx` and `onnx/decoder_model_merged.onnx`, whose names say what they are quantized to, and the
    configuration, which tells transformers.js which files to take.

    Args:
        checkpoint: the model's folder.
        folders: by quantization.

    Raises:
        ModelError: a package is missing, there is no such quantization, or the model cannot be exported.
    """
    for quantization in folders:
        check_quantization(quantization)
    import onnx

    from hf_paretokd.inference.graphs import FIRST, LATER, export_graphs, merged

    with quiet_files():
        model = load_model(str(checkpoint))
    whole = export_graphs(model)
    for quantization, folder in folders.items():
        graphs = {name: quantized(each, quantization) for name, each in whole.items()}
        layout = OnnxLayout(folder, SUFFIXES[quantization])
        layout.encoder.parent.mkdir(parents=True)
        onnx.save(graphs["encoder"], str(layout.encoder))
        onnx.save(merged(graphs[FIRST], graphs[LATER]), str(layout.decoder))
        with quiet_files():
            model.config.save_pretrained(folder)
            if model.generation_config is not None:
                model.generation_config.save_pretrained(folder)
        asked = {"transformers.js_config": {"dtype": TYPES[quantization]}}
        save_json({**load_json(folder / CONFIG), **asked}, folder / CONFIG)


def quantized(graph: Any, quantization: str) -> Any:
    """A graph with weights of 8 bits, one scale a column, 7 of them used, because older processors overflow; or of 16 bits."""
    import onnx

    graph = onnx.ModelProto.FromString(graph.SerializeToString())  # what is made of it changes it
    if quantization == "float32":
        return graph
    if quantization == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel as Sorting

        halved = Sorting(convert_float_to_float16(graph, keep_io_types=True))
        halved.topological_sort()  # as branches have to be
        return halved.model
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as temporary:
        plain, prepared, made = (str(Path(temporary) / f"{name}.onnx") for name in ("plain", "prepared", "made"))
        onnx.save(graph, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_dynamic(prepared, made, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        return onnx.load(made)


class OnnxModel:
    """An exported model, for greedy search.

    Args:
        folder: see `convert`.
        tokenizer: the model's.
        threads: of ONNX Runtime.

    Raises:
        ModelError: a package is missing, or the folder holds no exported model.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, threads: int) -> None:
        check_installed()
        import onnxruntime

        layout = OnnxLayout.of(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            for path in (layout.encoder, layout.decoder)
        )
        self.tokenizer = tokenizer
        self.settings = {**load_json(folder / CONFIG), **GenerationConfig.from_pretrained(folder).to_diff_dict()}
        self.outputs = [each.name for each in self.decoder.get_outputs()]
        self.empty = {each.name: empty(each.shape) for each in self.decoder.get_inputs() if each.name.startswith(PAST)}

    def generate(self, ids: Sequence[Sequence[int]], longest: int, direction: Direction) -> list[list[int]]:
        """Target ids of one batch, from the token that the decoder starts from to the end of the sentence."""
        settings = self.settings | generation_arguments(self.tokenizer, direction)
        end, pad = settings["eos_token_id"], settings["pad_token_id"]
        never = [word[0] for word in settings.get("bad_words_ids") or () if len(word) == 1]
        forced = settings.get("forced_bos_token_id"), settings.get("forced_eos_token_id")
        rows = self.tokenizer.pad({"input_ids": [list(row) for row in ids]}, return_tensors="np")
        mask = rows["attention_mask"].astype(np.int64)
        (states,) = self.encoder.run(None, {"input_ids": rows["input_ids"].astype(np.int64), "attention_mask": mask})
        past = {name: np.zeros((len(mask), *shape[1:]), states.dtype) for name, shape in self.empty.items()}
        made = np.full((len(mask), 1), settings["decoder_start_token_id"], np.int64)
        ended = np.zeros(len(mask), bool)
        while made.shape[1] < longest and not ended.all():
            given = {"encoder_attention_mask": mask, "encoder_hidden_states": states, "input_ids": made[:, -1:]}
            going_on = {"use_cache_branch": np.array([made.shape[1] > 1])}
            found = self.decoder.run(self.outputs, {**given, **past, **going_on})
            past = {name.replace(PRESENT, PAST, 1): each for name, each in zip(self.outputs[1:], found[1:], strict=True)}
            words = best(found[0][:, -1], never, forced[0] if made.shape[1] == 1 else None)
            if made.shape[1] == longest - 1 and forced[1] is not None:
                words[:] = forced[1]
            words[ended] = pad
            ended |= words == end
            made = np.concatenate([made, words[:, None]], 1)
        return made.tolist()


def best(logits: NDArray[np.floating], never: Sequence[int], forced: int | None) -> NDArray[np.int64]:
    """The best entry of every row, but for some that never are; or the one that is forced."""
    if forced is not None:
        return np.full(len(logits), forced, np.int64)
    logits[:, never] = -np.inf
    return logits.argmax(-1)


def empty(shape: Sequence[int | str]) -> tuple[int, ...]:
    """A shape with 0 for what has a name."""
    return tuple(each if isinstance(each, int) else 0 for each in shape)


def onnx_decoder(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Decoder:
    """A decoder by the exported model in `folder`, greedily, with as many threads as torch has."""
    model = OnnxModel(folder, tokenizer, torch.get_num_threads())

    def decode(ids: list[list[int]], longest: int, beams: int, direction: Direction) -> Sequence[Sequence[int]]:
        if beams != 1:
            raise ModelError(f"num_beams: ONNX Runtime is asked greedily here, not for {beams} beams")
        return model.generate(ids, longest, direction)

    return decode
