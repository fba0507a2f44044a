"""What is put around converted models: a page for the browser, packages for Argos Translate."""

import json
import shutil
import zipfile
from dataclasses import replace

import ctranslate2
import pytest
import sentencepiece
from families import family

from hf_paretokd import LanguagePair
from hf_paretokd.data.languages import Direction
from hf_paretokd.errors import ModelError
from hf_paretokd.evaluation.proof import Sentences
from hf_paretokd.inference.runtimes import RUNTIMES
from hf_paretokd.models.files import load_checkpoint, usable_length
from hf_paretokd.runs.export import export_model
from hf_paretokd.runs.web import PINNED, WebRuntime

FR_EN, BS_EN = LanguagePair("fr", "en"), LanguagePair("bs", "en")


@pytest.fixture
def student(students):
    model, tokenizer = load_checkpoint(students / "2-2")
    return model.eval(), tokenizer


@pytest.fixture
def package(tmp_path):
    """A folder as npm leaves it."""
    modules = tmp_path / "node_modules"
    library, engine = modules / "@huggingface" / "transformers", modules / "onnxruntime-web" / "dist"
    (library / "dist").mkdir(parents=True)
    engine.mkdir(parents=True)
    (library / "package.json").write_text('{"name": "@huggingface/transformers"}')
    for path in (
        library / "dist" / "transformers.min.js",
        *(engine / f"ort-wasm-simd-threaded.{end}" for end in ("mjs", "wasm")),
    ):
        path.write_text(path.name)
    return library


@pytest.fixture
def without_graphs(monkeypatch):
    """The page is what matters here; graphs are made elsewhere."""

    def convert(_, folders):
        for folder in folders.values():
            (folder / "onnx").mkdir(parents=True)
            (folder / "onnx" / "encoder_model.onnx").write_bytes(b"0" * 1_500_000)
            (folder / "config.json").write_text("{}")

    runtime = replace(RUNTIMES["onnx"], convert=convert, decoder=lambda *_: None)
    monkeypatch.setitem(RUNTIMES, "onnx", runtime)


def test_a_page_has_all_that_it_needs_beside_it(student, package, without_graphs, tmp_path):
    told = {FR_EN: Direction(), BS_EN: Direction()}
    export_model(*student, [], tmp_path / "page", to="web", told=told, web_runtime=WebRuntime.of(package))
    page = (tmp_path / "page" / "index.html").read_text()
    for text in (
        "<title>Translation fr → en, bs → en</title>",
        "1.5 MB, float32",
        "nothing is sent",
        "spellInBytes(translator",
        f"max_new_tokens: {usable_length(student[0].config, student[1]) - 1} }}",
    ):
        assert text in page
    assert "<option>en</option>" in page, "its vocabulary has a tag"
    assert "https://" not in page
    assert 'import("./runtime/transformers.min.js")' in page
    names = {path.relative_to(tmp_path / "page").as_posix() for path in (tmp_path / "page").rglob("*") if path.is_file()}
    assert {
        "model/tokenizer.json",
        "model/config.json",
        "model/onnx/encoder_model.onnx",
        "proof.json",
        "manifest.json",
    } <= names
    assert {"runtime/transformers.min.js", "runtime/ort-wasm-simd-threaded.wasm", "runtime/ort-wasm-simd-threaded.mjs"} <= names
    with pytest.raises(ModelError, match="exists already; give --overwrite"):
        export_model(*student, [], tmp_path / "page", to="web")
    proof = export_model(*student, [], tmp_path / "page", to="web", overwrite=True)
    assert proof.bytes == 1_500_000
    page = (tmp_path / "page" / "index.html").read_text()
    assert f'import("{PINNED}")' in page, "it says where the runtime comes from"
    assert f"the runtime comes from {PINNED}; text is not sent" in page
    assert not (tmp_path / "page" / "runtime").exists()
    assert "<title>Translation</title>" in page
    with pytest.raises(ModelError, match="web: the page runs Marian models, not t5; take --to onnx"):
        export_model(family("t5"), student[1], [], tmp_path / "other", to="web")


def test_folders_that_hold_no_runtime(package, tmp_path):
    assert WebRuntime.of(package).library.name == "transformers.min.js"
    with pytest.raises(
        ModelError, match="is not the folder of the npm package @huggingface/transformers, such as node_modules"
    ):
        WebRuntime.of(tmp_path)
    (package / "package.json").write_text('{"name": "onnxruntime-web"}')
    with pytest.raises(ModelError, match="is not the folder of the npm package"):
        WebRuntime.of(package)
    (package / "package.json").write_text('{"name": "@huggingface/transformers"}')
    shutil.move(package.parent.parent / "onnxruntime-web", package / "node_modules" / "onnxruntime-web")
    assert WebRuntime.of(package).engine[1].is_file(), "inside as well as beside"
    (package / "dist" / "transformers.min.js").unlink()
    with pytest.raises(ModelError, match=r"lacks dist/transformers\.min\.js, or onnxruntime-web"):
        WebRuntime.of(package)


def test_a_package_is_what_argos_translate_reads(student, sentences, texts, short, tmp_path):
    """Its own steps, but for the splitting into sentences: pieces, CTranslate2, pieces to text."""
    model, tokenizer = student
    references = [next(iter(texts["train"].values())).targets[index] for index in short]
    told = {FR_EN: Direction(), BS_EN: Direction()}
    text = [Sentences("en", sentences, references)]
    proof = export_model(model, tokenizer, text, tmp_path / "argos", "int8", to="argos", told=told)
    assert proof.equal + len(proof.ties) == 150
    names = sorted(path.name for path in (tmp_path / "argos").iterdir())
    assert names == ["manifest.json", "proof.json", "translate-bs_en-1_0.argosmodel", "translate-fr_en-1_0.argosmodel"]
    with zipfile.ZipFile(tmp_path / "argos" / "translate-fr_en-1_0.argosmodel") as package:
        package.extractall(tmp_path / "installed")
    folder = tmp_path / "installed" / "fr_en"
    assert {path.name for path in folder.iterdir()} == {"metadata.json", "sentencepiece.model", "model"}
    facts = json.loads((folder / "metadata.json").read_text())
    assert (facts["from_code"], facts["to_code"], facts["type"]) == ("fr", "en", "translate")
    pieces = sentencepiece.SentencePieceProcessor(str(folder / "sentencepiece.model"))
    translator = ctranslate2.Translator(str(folder / "model"))
    export_model(model, tokenizer, [], tmp_path / "plain", "int8")
    by_hand = ctranslate2.Translator(str(tmp_path / "plain"))
    options = {"beam_size": 4, "replace_unknowns": True, "length_penalty": 0.2}
    lines = [pieces.encode(sentence, out_type=str) for sentence in sentences]
    found = [each.hypotheses[0] for each in translator.translate_batch(lines, **options)]
    assert found == [each.hypotheses[0] for each in by_hand.translate_batch(lines, **options)]
    assert sum(pieces.decode_pieces(words) == line for words, line in zip(found, references, strict=True)) > 120
    long = pieces.encode(" ".join(sentences), out_type=str)
    assert len(long) > model.config.max_position_embeddings
    assert translator.translate_batch([long[:600]], max_decoding_length=256)[0].hypotheses[0]


def test_what_no_package_can_hold(student, tmp_path):
    model, tokenizer = student
    out, told = tmp_path / "argos", {FR_EN: Direction()}
    for change, message in (
        ({}, r"argos: a package is of a language pair; name the model's, such as --data\.pairs de-en"),
        ({FR_EN: Direction(">>en<< ")}, r"argos: a package cannot tell a model its target \(fr-en\)"),
    ):
        with pytest.raises(ModelError, match=message):
            export_model(model, tokenizer, [], out, to="argos", told=change)
    model.config.model_type = "bart"
    try:
        with pytest.raises(ModelError, match="argos: its packages hold Marian models here, not bart"):
            export_model(model, tokenizer, [], out, to="argos", told=told)
    finally:
        model.config.model_type = "marian"
    assert not list(tmp_path.iterdir())


def test_two_sentencepiece_models_fit_no_package(new_model, texts, tmp_path):
    from hf_paretokd import train_tokenizer

    tokenizer = train_tokenizer(texts["train"], tmp_path / "tokenizer", vocab_size=900, joint=False)
    model = new_model(known=tokenizer, encoder_layers=1, decoder_layers=1)
    with pytest.raises(
        ModelError, match=r"argos: a package has one SentencePiece model for both sides; train with tokenizer\.joint"
    ):
        export_model(model, tokenizer, [], tmp_path / "argos", to="argos", told={FR_EN: Direction()})
