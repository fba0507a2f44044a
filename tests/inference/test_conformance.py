"""The same text means the same to everything that runs a model: transformers 4 and 5, raw SentencePiece, our export."""

import json
import subprocess
import sys

import ctranslate2
import pytest
import sentencepiece
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_paretokd.inference.lines import line_translator
from hf_paretokd.models.files import load_checkpoint
from hf_paretokd.runs.export import export_model

ODD = [
    "été à Noël",
    "漢字 かな 한국어",
    "emoji 😀 👍🏽",
    "a >>en<< b",
    "ﬁ ligature Ｆｕｌｌ",
    "zero\u200bwidth",
    "« guillemets » — tiret",
    "naïve",
]
SPACES = ["  {}", "{}  ", " {} ", "\t{}", "{}\u00a0", "\u3000{}"]

OLD_SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.modules["hf_paretokd"] = None
import transformers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
folder, texts = sys.argv[1], json.load(open(sys.argv[2]))
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
ids = [tokenizer(text)["input_ids"] for text in texts]
found = [
    model.generate(**tokenizer([text], return_tensors="pt"), num_beams=1, max_length=60)[0].tolist() for text in texts
]
print(json.dumps({"version": transformers.__version__, "ids": ids, "outputs": found}))
"""


@pytest.fixture(scope="module")
def cases(sentences):
    """(tag, text): 100 texts, half of them with a tag, in both spellings, some with odd characters or more spaces."""
    texts = [*ODD, *(SPACES[index % 6].format(text.replace(" ", "  ", index % 2)) for index, text in enumerate(sentences[:42]))]
    return [("", text) for text in texts] + [(">>en<<" + " " * (index % 2), text) for index, text in enumerate(texts)]


@pytest.fixture(scope="module")
def found(students, cases):
    """The texts with their tags, their ids and what transformers 5 makes of them."""
    folder, texts = students / "3-2", [tag + text for tag, text in cases]
    model, own = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = [own(text)["input_ids"] for text in texts]
    outputs = [model.generate(**own([text], return_tensors="pt"), num_beams=1, max_length=60)[0].tolist() for text in texts]
    return texts, ids, outputs


def test_sentencepiece_ctranslate2_and_our_command_agree_with_transformers(students, cases, found, tmp_path):
    folder, (texts, ids, outputs) = students / "3-2", found
    model, own = load_checkpoint(folder)
    expected = [own.decode(made, skip_special_tokens=True) for made in outputs]
    assert len(texts) == 100
    assert len(set(expected)) > 30, "the model tells them apart"

    # raw SentencePiece, and CTranslate2 with nothing but the pieces
    export_model(model.eval(), own, [], tmp_path / "export")
    assert json.loads((tmp_path / "export" / "config.json").read_text())["add_source_eos"] is True
    source, target = (
        sentencepiece.SentencePieceProcessor(str(tmp_path / "export" / f"{side}.spm")) for side in ("source", "target")
    )
    pieces = [[*filter(None, [tag.strip()]), *source.encode(text, out_type=str)] for tag, text in cases]
    vocabulary = own.get_vocab()
    assert [[*(vocabulary[piece] for piece in each), vocabulary["</s>"]] for each in pieces] == ids
    translator = ctranslate2.Translator(str(tmp_path / "export"))
    raw = [
        target.decode(found.hypotheses[0]) for found in translator.translate_batch(pieces, beam_size=1, max_decoding_length=58)
    ]
    assert raw == expected

    # our command, on the checkpoint and on the export
    lines = [text.encode() + b"\n" for text in texts]
    for place in (folder, tmp_path / "export"):
        ours = list(line_translator(str(place), num_beams=1).translate(lines))
        ended = [row for row, made in enumerate(outputs) if len(made) < 20]  # the command stops others elsewhere
        assert len(ended) > 80
        assert [ours[row].decode().rstrip("\n") for row in ended] == [expected[row] for row in ended]


def test_transformers_4_agrees_without_this_package(students, found, tmp_path, transformers_4):
    folder, (texts, ids, outputs) = students / "3-2", found
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    run = subprocess.run(
        [sys.executable, "-c", OLD_SCRIPT, str(folder), str(tmp_path / "texts.json")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(transformers_4), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    report = json.loads(run.stdout.strip().splitlines()[-1])
    assert report["version"].startswith("4.57")
    assert report["ids"] == ids
    assert report["outputs"] == outputs
