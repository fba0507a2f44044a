import json
import subprocess
import sys

import pytest
from transformers import AutoModelForSeq2SeqLM, pipeline

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


def test_transformers_4_translates_without_this_package(students, sentences, tmp_path, transformers_4):
    (tmp_path / "texts.json").write_text(json.dumps(sentences[:20]))
    run = subprocess.run(
        [sys.executable, "-c", OLD_SCRIPT, str(students / "2-2"), str(tmp_path / "texts.json")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(transformers_4), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    report = json.loads(run.stdout.strip().splitlines()[-1])
    translator = pipeline("translation", str(students / "2-2"))
    assert report["version"].startswith("4.57")
    assert report["translations"] == [each["translation_text"] for each in translator(sentences[:20], max_length=60)]


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
    run = subprocess.run([sys.executable, "-c", HOOKED], capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip().splitlines()[-1] == "[True, True, True]"
