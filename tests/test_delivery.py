"""Students leave the house: saved, carded, run by pipelines of two majors and by CTranslate2."""

import json
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from hf_paretokd import Depth, LanguagePair, save_students, sliced, translate
from hf_paretokd.delivery.card import CardFacts, ModelScore, render_card
from hf_paretokd.errors import ModelError, TokenizerError
from hf_paretokd.evaluation.translation import decoder_of

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


def test_saved_students_are_whole_and_plain(trained, students, tokenizer, batch):
    for depth in ("3-2", "2-2"):
        names = {path.name for path in (students / depth).iterdir()}
        assert {
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "README.md",
            "vocab.json",
            "source.spm",
            "target.spm",
            "tokenizer_config.json",
        } == names
        settings = json.loads((students / depth / "tokenizer_config.json").read_text())
        assert not {"is_local", "local_files_only", "name_or_path"} & set(settings)
        assert "custom_pipelines" not in (students / depth / "config.json").read_text()
        loaded = AutoModelForSeq2SeqLM.from_pretrained(students / depth).eval()
        loaded.set_attn_implementation("eager")  # as the teacher was set for training on a CPU
        with torch.no_grad(), sliced(trained, Depth.parse(depth)):
            assert torch.equal(loaded(**batch).logits, trained(**batch).logits)
        assert (
            AutoTokenizer.from_pretrained(students / depth)("dans 3 heures")["input_ids"]
            == tokenizer("dans 3 heures")["input_ids"]
        )


def test_students_are_not_overwritten_unasked(trained, students, tokenizer):
    with pytest.raises(ModelError, match="--overwrite"):
        save_students(trained, tokenizer, [Depth(2, 2)], students, "all_in_one")
    with pytest.raises(ModelError, match="depth 4-2"):
        save_students(trained, tokenizer, [Depth(4, 2)], students, "all_in_one", overwrite=True)
    save_students(trained, tokenizer, [Depth(2, 2)], students, "all_in_one", [LanguagePair("fr", "en")], overwrite=True)


def test_cards_are_valid_and_say_what_is_known():
    pairs = [LanguagePair("en", "de"), LanguagePair("en", "no")]
    score = ModelScore("en-de", "bleu", 31.25, "tok:13a", 30.1, 32.4)
    card = ModelCard(
        render_card(
            CardFacts("6-2", "6-6", "all_in_one", 2_260_000, pairs, (">>de<<", ">>no<<"), scores=[score], license="cc-by-4.0")
        )
    )
    assert card.data.pipeline_tag == "translation"
    assert card.data.language == ["de", "en", "no"]
    assert "6 encoder and 2 decoder layers, 2.26 million parameters, the first layers of a 6-6 teacher" in card.text
    assert ">>de<< >>no<<" in card.text
    assert "| en-de | 31.2 (30.1–32.4) |" in card.text
    assert card.data.license == "cc-by-4.0"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.metric_args["confidence_interval_95"]) == (
        "bleu",
        31.25,
        [30.1, 32.4],
    )
    plain = render_card(CardFacts("2-2", "2-2", "plain", 1_000_000)).split("## Citation")[0]
    assert "teacher" not in plain
    assert "All-in-One" not in plain
    assert "No license was stated" in plain


# ---- the pipeline of transformers 5


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


def test_translate_keeps_the_order_and_refuses_unknown_tags(trained, tokenizer, sentences):
    together = translate(trained, tokenizer, sentences, max_tokens=300)
    assert len(set(together)) > 100
    assert together[:5] == [translate(trained, tokenizer, [text])[0] for text in sentences[:5]]
    assert translate(trained, tokenizer, []) == []
    with pytest.raises(TokenizerError, match=">>zz<<"):
        translate(trained, tokenizer, [">>zz<< x"])


# ---- other runtimes


def test_ctranslate2_agrees_with_generate(students, sentences, tokenizer):
    """As an engine for the results table: greedy output is the same, sentence by sentence."""
    for depth in ("3-2", "2-2"):
        model = AutoModelForSeq2SeqLM.from_pretrained(students / depth).eval()
        expected = translate(model, tokenizer, sentences)
        found = translate(model, tokenizer, sentences, decoder=decoder_of(model, tokenizer, "ctranslate2"))
        assert found == expected
    assert len(set(expected)) > 100


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
