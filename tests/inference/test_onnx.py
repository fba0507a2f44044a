"""Exports for ONNX Runtime: graphs of every family against the models themselves, greedy search against `generate`."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from families import family, inputs
from lookalikes import family_like
from transformers import AutoModelForSeq2SeqLM

from hf_paretokd import Depth, extract_student
from hf_paretokd.data.languages import Direction
from hf_paretokd.errors import ExportError, ModelError
from hf_paretokd.evaluation.proof import Sentences
from hf_paretokd.inference import graphs
from hf_paretokd.inference import onnx as module
from hf_paretokd.inference.decoding import decode_all, decoder_of, encode_sources
from hf_paretokd.inference.graphs import FIRST, LATER, export_graphs, merged
from hf_paretokd.inference.onnx import convert_each, onnx_decoder
from hf_paretokd.inference.runtimes import RUNTIMES
from hf_paretokd.layout import OnnxLayout
from hf_paretokd.models.files import load_checkpoint, save_model, usable_length
from hf_paretokd.runs.export import export_model

KINDS = ["mbart", "m2m100", "t5"]


@pytest.fixture(scope="module")
def converted(students, tmp_path_factory):
    """The smaller student in all quantizations."""
    folder = tmp_path_factory.mktemp("onnx")
    folders = {name: folder / name for name in ("float32", "int8", "float16")}
    convert_each(students / "2-2", folders)
    return folders


@pytest.fixture
def student(students):
    model, tokenizer = load_checkpoint(students / "2-2")
    return model.eval(), tokenizer


def session(graph):
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_compute_what_the_model_does(kind):
    """Word by word with what earlier words have left; the text's own keys and values come out as they went in."""
    model = extract_student(family(kind), Depth(1, 1)).eval()
    made = export_graphs(model)
    encoder, decoder = session(made["encoder"]), session(merged(made[FIRST], made[LATER]))
    batch = {name: each.numpy() for name, each in inputs().items()}
    mask, words = batch["attention_mask"], torch.tensor([[model.config.decoder_start_token_id, 5, 9, 7]] * 4)
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor(batch["input_ids"]), attention_mask=torch.tensor(mask), decoder_input_ids=words
        ).logits.numpy()
    (states,) = encoder.run(None, {"input_ids": batch["input_ids"], "attention_mask": mask})
    names = [each.name for each in decoder.get_outputs()]
    shapes = {each.name: each.shape[1:] for each in decoder.get_inputs() if each.name.startswith("past")}
    assert len(shapes) == 4
    past = {
        name: np.zeros((4, *(each if isinstance(each, int) else 0 for each in shape)), np.float32)
        for name, shape in shapes.items()
    }
    given = {"encoder_attention_mask": mask, "encoder_hidden_states": states}
    for place in range(4):
        step = {"input_ids": words[:, place : place + 1].numpy(), "use_cache_branch": np.array([place > 0])}
        logits, *left = decoder.run(names, {**given, **past, **step})
        np.testing.assert_allclose(logits[:, 0], expected[:, place], atol=1e-5)
        before, past = (
            past,
            {name.replace("present", "past_key_values"): each for name, each in zip(names[1:], left, strict=True)},
        )
        if place:
            assert np.array_equal(past["past_key_values.0.encoder.key"], before["past_key_values.0.encoder.key"])
            assert past["past_key_values.0.decoder.key"].shape[2] == place + 1
    whole, *_ = decoder.run(names, {**given, **before, "input_ids": words.numpy(), "use_cache_branch": np.array([False])})
    np.testing.assert_allclose(whole, expected, atol=1e-5)


def test_weights_of_both_forms_are_there_once(converted):
    layout = OnnxLayout.of(converted["float32"])
    whole = onnx.load(str(layout.decoder))
    known = [each.SerializeToString() for each in whole.graph.initializer]
    assert len(known) == len(set(known))
    branches = [each.g for each in whole.graph.node[0].attribute]
    assert not any(len(branch.initializer) for branch in branches)

    def size(folder):
        parts = OnnxLayout.of(folder)
        graphs = [onnx.load(str(path)).graph for path in (parts.encoder, parts.decoder)]
        return sum(len(each.SerializeToString()) for graph in graphs for each in graph.initializer)

    assert size(converted["int8"]) < 0.4 * size(converted["float32"])
    assert [each.name for each in whole.graph.input][-1] == "use_cache_branch"


def test_greedy_search_is_that_of_generate(student, converted, sentences):
    model, tokenizer = student
    limit = usable_length(model.config, tokenizer)
    ids = encode_sources(tokenizer, sentences, limit)
    expected = decode_all(decoder_of(model, tokenizer, "transformers"), ids, limit)
    assert len({tuple(each) for each in expected}) > 50

    def words(rows):
        return tokenizer.batch_decode(rows, skip_special_tokens=True)

    for name, least in (("float32", 150), ("float16", 140), ("int8", 100)):
        found = decode_all(onnx_decoder(converted[name], tokenizer), ids, limit, max_tokens=300)
        assert sum(one == two for one, two in zip(words(found), words(expected), strict=True)) >= least, name
    with pytest.raises(ModelError, match="num_beams: ONNX Runtime is asked greedily here, not for 2 beams"):
        decode_all(onnx_decoder(converted["float32"], tokenizer), ids, limit, num_beams=2)


def test_outputs_without_an_end_stop_where_generate_stops(student, tmp_path):
    """The end is forced where the room ends, if the model's settings say so; the limit is in the folder."""
    model, tokenizer = student
    model.final_logits_bias[0, tokenizer.eos_token_id] = -1e4
    save_model(model, tokenizer, tmp_path / "endless")
    convert_each(tmp_path / "endless", {"float32": tmp_path / "out"})
    ids, direction = encode_sources(tokenizer, ["kupe", "il y a deux jours"], 30), Direction()
    for longest in (3, 7):
        expected = decoder_of(model, tokenizer, "transformers")(ids, longest, 1, direction)
        found = onnx_decoder(tmp_path / "out", tokenizer)(ids, longest, 1, direction)
        assert found == expected.tolist()
        assert len(found[0]) == longest
    kept = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert kept["max_length"] == usable_length(model.config, tokenizer) <= model.config.max_position_embeddings


def test_models_are_told_their_language(texts, tmp_path):
    direction = Direction("", "fr", "en")
    text = next(iter(texts["train"].values()))
    family_like("m2m", tmp_path / "model", [*text.sources[:300], *text.targets[:300]])
    model, tokenizer = load_checkpoint(tmp_path / "model")
    small = extract_student(model, Depth(1, 1)).eval()
    save_model(small, tokenizer, tmp_path / "small")
    convert_each(tmp_path / "small", {"float32": tmp_path / "out"})
    ids = encode_sources(tokenizer, text.sources[:12], 30, direction)
    expected = decode_all(decoder_of(small, tokenizer, "transformers"), ids, 30, direction=direction)
    found = decode_all(onnx_decoder(tmp_path / "out", tokenizer), ids, 30, direction=direction)
    assert tokenizer.batch_decode(found) == tokenizer.batch_decode(expected)


def test_an_export_is_proved_and_laid_out_for_others(student, sentences, texts, short, tmp_path):
    model, tokenizer = student
    references = [next(iter(texts["train"].values())).targets[index] for index in short]
    proof = export_model(model, tokenizer, [Sentences("en", sentences, references)], tmp_path / "web", "int8", to="onnx")
    assert (proof.sentences, proof.equal + len(proof.ties), proof.broken) == (150, 150, [])
    assert proof.losses[0].float32 > 80
    names = {path.relative_to(tmp_path / "web").as_posix() for path in (tmp_path / "web").rglob("*") if path.is_file()}
    assert {"onnx/encoder_model_quantized.onnx", "onnx/decoder_model_merged_quantized.onnx", "tokenizer.json"} <= names
    assert {"config.json", "generation_config.json", "tokenizer_config.json", "proof.json", "manifest.json"} <= names
    config = json.loads((tmp_path / "web" / "config.json").read_text())
    assert (config["model_type"], config["transformers.js_config"]) == ("marian", {"dtype": "q8"})
    assert OnnxLayout.of(tmp_path / "web").suffix == "_quantized"


def test_a_converted_model_that_differs_is_not_exported(student, converted, sentences, tmp_path, monkeypatch):
    real = RUNTIMES["onnx"]

    def differing(folder, tokenizer):
        decoder = real.decoder(folder, tokenizer)
        return lambda *words: [[*row[:2], 9, *row[3:]] for row in decoder(*words)]

    monkeypatch.setitem(
        RUNTIMES,
        "onnx",
        replace(real, decoder=differing, convert=lambda _, folders: shutil.copytree(converted["float32"], folders["float32"])),
    )
    with pytest.raises(ExportError, match=r"float32 output differs from generate's in \d+ of 20 sentences without a tie"):
        export_model(*student, [Sentences("en", sentences[:20], sentences[:20])], tmp_path / "out", to="onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(student, students, tmp_path, monkeypatch):
    model, tokenizer = student
    with pytest.raises(ModelError, match="quantization: 'int16' is not one of float32, int8, float16, those of onnx"):
        export_model(model, tokenizer, [], tmp_path / "out", "int16", to="onnx")
    with pytest.raises(ModelError, match="to: 'tflite' is not one of ctranslate2, onnx"):
        export_model(model, tokenizer, [], tmp_path / "out", to="tflite")
    monkeypatch.setattr(graphs, "LARGEST", 1000)
    with pytest.raises(ModelError, match=r"ONNX: a model of 0\.0 GB does not fit one file of 2 GB"):
        convert_each(students / "2-2", {"float32": tmp_path / "out"})
    monkeypatch.undo()

    def refuse(*_args, **_kwargs):
        raise RuntimeError("\nthis layer looks at values\nand more")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ModelError, match=r"ONNX: torch cannot export marian \(this layer looks at values\)"):
        convert_each(students / "2-2", {"float32": tmp_path / "out"})
    monkeypatch.undo()
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxruntime" else True)
    with pytest.raises(ModelError, match=r"onnxruntime is not installed \(pip install 'hf_paretokd\[onnx\]'\)"):
        export_model(model, tokenizer, [], tmp_path / "out", to="onnx")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    with pytest.raises(ModelError, match="holds no model for ONNX Runtime"):
        onnx_decoder(tmp_path, tokenizer)


def test_a_model_is_left_as_it_was(students):
    model = extract_student(AutoModelForSeq2SeqLM.from_pretrained(students / "2-2"), Depth(1, 1)).train()
    attention = model.config._attn_implementation
    assert attention != "eager"
    export_graphs(model)
    assert model.training
    assert model.config._attn_implementation == attention
