import json
from dataclasses import replace

import ctranslate2
import pytest
import torch
from transformers import AutoTokenizer

from hf_paretokd.errors import ExportError, ModelError
from hf_paretokd.evaluation.proof import Sentences
from hf_paretokd.inference.runtimes import RUNTIMES
from hf_paretokd.runs.export import export_model


@pytest.fixture(scope="module")
def references(texts, short):
    return [next(iter(texts["train"].values())).targets[index] for index in short]


def test_an_export_is_proved_and_whole(trained, tokenizer, sentences, references, tmp_path):
    proof = export_model(trained, tokenizer, [Sentences("en", sentences, references)], tmp_path / "int8", "int8")
    assert (proof.sentences, proof.equal + len(proof.ties), proof.broken) == (150, 150, [])
    assert proof.equal >= 148
    (loss,) = proof.losses
    assert loss.sentences == 150
    assert loss.float32 > 90, "it knows these phrases by heart"
    names = {path.name for path in (tmp_path / "int8").iterdir()}
    assert {"model.bin", "config.json", "source.spm", "target.spm", "tokenizer_config.json", "proof.json"} <= names
    assert [path.name for path in tmp_path.iterdir()] == ["int8"], "nothing unfinished is left"
    assert json.loads((tmp_path / "int8" / "proof.json").read_text())["equal"] == proof.equal
    kept = AutoTokenizer.from_pretrained(tmp_path / "int8")
    translator = ctranslate2.Translator(str(tmp_path / "int8"))
    pieces = kept.convert_ids_to_tokens(kept(sentences[-1], add_special_tokens=False)["input_ids"])
    found = translator.translate_batch([pieces])[0].hypotheses[0]
    assert kept.decode(kept.convert_tokens_to_ids(found)) == references[-1]
    with pytest.raises(ModelError, match="--overwrite"):
        export_model(trained, tokenizer, [], tmp_path / "int8")
    with pytest.raises(ModelError, match="'int4' is not one of float32, int8"):
        export_model(trained, tokenizer, [], tmp_path / "int4", "int4")


def test_an_export_that_was_overtaken_replaces_the_other_only_if_it_may(trained, tokenizer, tmp_path, monkeypatch):
    real, sizes = RUNTIMES["ctranslate2"], [0]

    def convert(checkpoint, folders):
        if len(sizes) == 1:
            sizes.append(0)
            sizes.append(export_model(trained, tokenizer, [], tmp_path / "out").bytes)
        real.convert(checkpoint, folders)

    monkeypatch.setitem(RUNTIMES, "ctranslate2", replace(real, convert=convert))
    with pytest.raises(ModelError, match="out: exists already; give --overwrite"):
        export_model(trained, tokenizer, [], tmp_path / "out", "int8")
    first = (tmp_path / "out" / "model.bin").stat().st_size
    assert sizes[-1] == first > 0
    proof = export_model(trained, tokenizer, [], tmp_path / "out", "int8", overwrite=True)
    assert proof.bytes == (tmp_path / "out" / "model.bin").stat().st_size < first
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing unfinished is left"


def test_a_model_whose_pad_row_is_not_zero_is_not_exported(trained, tokenizer, sentences, references, tmp_path):
    """The trap of Marian: CTranslate2 converts it without a word and translates something else."""
    row = trained.get_input_embeddings().weight
    with torch.no_grad():
        row[-1] += 3.0
    try:
        with pytest.raises(ExportError, match=r"differs from generate's in \d+ of 150 sentences without a tie"):
            export_model(trained, tokenizer, [Sentences("en", sentences, references)], tmp_path / "out")
    finally:
        with torch.no_grad():
            row[-1] = 0
    assert not list(tmp_path.iterdir())


def test_a_quantization_that_costs_quality_is_not_exported(trained, tokenizer, sentences, references, tmp_path, monkeypatch):
    runtime = RUNTIMES["ctranslate2"]

    def worse(folder, tokenizer):
        decoder = runtime.decoder(folder, tokenizer)
        if folder.name != "int8":
            return decoder
        return lambda *words: [row[: len(row) // 2] for row in decoder(*words)]

    monkeypatch.setitem(RUNTIMES, "ctranslate2", replace(runtime, decoder=worse))
    (tmp_path / "out").mkdir()
    for name in ("model.bin", "proof.json"):  # an export of before
        (tmp_path / "out" / name).write_text("kept")
    (tmp_path / "out" / "manifest.json").write_text('{"files": {"model.bin": {}, "proof.json": {}}}')
    texts = [Sentences("en", sentences, references)]
    with pytest.raises(ExportError, match=r"int8 loses \d+\.\d+ BLEU on 150 sentences"):
        export_model(trained, tokenizer, texts, tmp_path / "out", "int8", overwrite=True)
    assert (tmp_path / "out" / "model.bin").read_text() == "kept", "what was there stays if the new one fails"
