import copy
import json
import subprocess
import sys

import pytest
from commands import PATIENCE, command
from conftest import SMALL
from transformers import AutoModelForSeq2SeqLM, pipeline

from hf_paretokd import LanguagePair, ModelConfig, build_model, train_tokenizer, translate
from hf_paretokd.errors import TokenizerError
from hf_paretokd.models.files import load_checkpoint
from hf_paretokd.runs.export import export_model

OLD_SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.modules["hf_paretokd"] = None  # importing it would fail
import transformers
from transformers import pipeline
translator = pipeline("translation", sys.argv[1])
texts = json.load(open(sys.argv[2]))
found = [result["translation_text"] for result in translator(texts, max_length=60)]
print(json.dumps({"version": transformers.__version__, "translations": found}))
"""


def test_the_translation_pipeline_is_back(students, sentences, tokenizer):
    translator = pipeline("translation", str(students / "2-2"))
    model = AutoModelForSeq2SeqLM.from_pretrained(students / "2-2")
    expected = [
        tokenizer.decode(model.generate(**tokenizer([text], return_tensors="pt"))[0], skip_special_tokens=True)
        for text in sentences[:6]
    ]
    assert [each["translation_text"] for each in translator(sentences[:6])] == expected
    assert [each["translation_text"] for each in translator(sentences[:6], batch_size=3)] == expected
    assert translator(sentences[0]) == [{"translation_text": expected[0]}]
    assert len(translator(sentences[0], num_beams=3, num_return_sequences=2)) == 2
    whole, cut = (translator(sentences[-1], max_length=length)[0]["translation_text"] for length in (60, 4))
    assert cut != whole
    assert pipeline("translation", model=model, tokenizer=tokenizer)(sentences[0])[0]["translation_text"] == expected[0]
    tagged = translator(">>en<< " + sentences[1])
    assert translator(sentences[1], tgt_lang="en") == tagged
    assert translator("x " * 500), "long input is cut, not a crash"
    with pytest.raises(TypeError, match="text or a list of texts"):
        translator(3)


def test_text_longer_than_the_positions_is_cut_everywhere(new_model, tokenizer, texts, tmp_path, capfd):
    """A foreign tokenizer that was told another length than the model, or none, never ends in an IndexError."""
    short, sources = new_model(max_position_embeddings=20).eval(), next(iter(texts["test"].values())).sources
    for told in (96, 10**30):
        tokenizer_of_more = copy.deepcopy(tokenizer)
        tokenizer_of_more.model_max_length = told
        assert pipeline("translation", model=short, tokenizer=tokenizer_of_more)("dans 3 heures " * 50, max_length=20)
        assert len(translate(short, tokenizer_of_more, ["dans 3 heures " * 50], num_beams=2)) == 1
        short.save_pretrained(tmp_path / str(told))
        tokenizer_of_more.save_pretrained(tmp_path / str(told))
        (tmp_path / "in.txt").write_text("dans 3 heures " * 50 + "\n" + sources[0] + "\n")
        export_model(*load_checkpoint(tmp_path / str(told)), [], tmp_path / f"{told}-export")
        for model in (str(told), f"{told}-export"):
            for long in ("split", "cut"):
                assert command("translate", tmp_path / model, tmp_path / "in.txt", "--long", long, "--num_beams", 1) == 0
                assert len(capfd.readouterr().out.splitlines()) == 2


def test_an_export_whose_length_is_unknown_says_so(new_model, tokenizer, tmp_path, capfd):
    short = new_model(max_position_embeddings=20)
    export_model(short, tokenizer, [], tmp_path / "export")
    settings = tmp_path / "export" / "tokenizer_config.json"
    assert '"model_max_length": 20' in settings.read_text()
    settings.write_text(settings.read_text().replace('"model_max_length": 20', '"model_max_length": 96'))
    (tmp_path / "in.txt").write_text("dans 3 heures " * 10)
    assert command("translate", tmp_path / "export", tmp_path / "in.txt") == 1
    error = capfd.readouterr().err
    assert "No position encodings" in error
    assert "exported again" in error.replace("\n", " ")
    assert "Traceback" not in error


def test_a_text_needs_a_target_where_there_are_several(students, sentences, tmp_path, texts):
    pairs = {LanguagePair("en", target): texts["train"][LanguagePair("fr", "en")] for target in ("fr", "el")}
    tokenizer = train_tokenizer(pairs, tmp_path, vocab_size=700)
    model = build_model(ModelConfig(**SMALL, encoder_layers=1, decoder_layers=1), tokenizer, 1).eval()
    translator = pipeline("translation", model=model, tokenizer=tokenizer)
    asked, own = translator(sentences[0], tgt_lang="el"), translator(">>el<< " + sentences[0])
    assert asked == own
    assert translator(">>el<< " + sentences[0], tgt_lang="fr") == own, "a text's own tag counts"
    for text, options, message in (
        (sentences[0], {}, "no target language: put one of >>el<<, >>fr<<"),
        (sentences[0], {"tgt_lang": "de"}, "tag >>de<< is unknown"),
        (">>de<< " + sentences[0], {}, "tag >>de<< is unknown"),
    ):
        with pytest.raises(TokenizerError, match=message):
            translator(text, **options)
    assert translator(sentences[0], tgt_lang="none")


def test_transformers_4_translates_without_this_package(students, sentences, tmp_path, transformers_4):
    (tmp_path / "texts.json").write_text(json.dumps(sentences[:20]))
    run = subprocess.run(
        [sys.executable, "-c", OLD_SCRIPT, str(students / "2-2"), str(tmp_path / "texts.json")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(transformers_4), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    report = json.loads(run.stdout.strip().splitlines()[-1])
    translator = pipeline("translation", str(students / "2-2"))
    assert report["version"].startswith("4.57")
    assert report["translations"] == [each["translation_text"] for each in translator(sentences[:20], max_length=60)]


def test_ids_are_given_where_they_are_asked_for(students, sentences):
    """As by the pipeline of transformers 4."""
    translator = pipeline("translation", str(students / "2-2"))
    (made,) = translator(sentences[0], return_tensors=True, num_beams=1)
    text = translator.tokenizer.decode(made["translation_token_ids"], skip_special_tokens=True)
    assert translator(sentences[0], num_beams=1) == [{"translation_text": text}]


HOOKED = """
import importlib, importlib.util, sys
import hf_paretokd
importlib.util.find_spec("transformers.pipelines")  # a probe, no import
sys.modules["transformers.generation"] = None
try:
    import transformers.pipelines
except ImportError:
    del sys.modules["transformers.generation"]
from hf_paretokd import TranslationPipeline, register_translation_pipeline
import transformers.pipelines
tasks = lambda: "translation" in transformers.pipelines.PIPELINE_REGISTRY.get_supported_tasks()
found = [tasks()]
importlib.reload(transformers.pipelines)
found.append(tasks())
del sys.modules["transformers.pipelines"]
transformers.pipelines = importlib.import_module("transformers.pipelines")
found.append(tasks())
register_translation_pipeline()
print(found)
"""


def test_the_task_is_there_however_the_pipelines_come_to_be_imported():
    run = subprocess.run([sys.executable, "-c", HOOKED], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip().splitlines()[-1] == "[True, True, True]"
