"""All-in-One KD of every family that is told languages in its own way: students, scores, pipelines, exports."""

import ast
import contextlib
import io
import json
import re
import subprocess
import sys

import pytest
import yaml
from commands import PATIENCE, command
from lookalikes import family_like
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from hf_paretokd import Depth, LanguagePair
from hf_paretokd.hub.card import UNNAMED
from hf_paretokd.inference.decoding import translate
from hf_paretokd.layout import SOURCE
from hf_paretokd.models.member import Member
from hf_paretokd.runs.run import Run

FR_EN, EN_FR = LanguagePair("fr", "en"), LanguagePair("en", "fr")
CODES = {"m2m": ("fr", "en"), "nllb": ("fra_Latn", "eng_Latn"), "mbart": ("fr_XX", "en_XX"), "mbart50": ("fr_XX", "en_XX")}
KINDS = [*CODES, "t5"]
TRAINING = {
    "max_steps": 6,
    "eval_steps": 3,
    "logging_steps": 3,
    "max_tokens": 800,
    "learning_rate": 0.002,
    "warmup_steps": 1,
    "bf16": False,
    "disable_tqdm": True,
    "predict_with_generate": True,
}
OLD = """
import json, sys
from transformers import __version__, pipeline
found = {"version": __version__}
for folder, text, languages in json.loads(sys.argv[1]):
    translator = pipeline("translation", folder)
    made = translator(text, num_beams=1, max_new_tokens=38, return_tensors=True, **languages)
    found[folder] = made[0]["translation_token_ids"]
print(json.dumps(found, default=lambda tensor: tensor.tolist()))
"""


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory, text_folder, texts):
    """A finished run from a look-alike of a family, made once."""
    made = {}

    def build(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            text = texts["train"][FR_EN]
            family_like(kind, folder / "model", [*text.sources[:300], *text.targets[:300]])
            recipe = {
                "method": "all_in_one",
                "data": {"pairs": ["fr-en"], "data_dir": str(text_folder), "max_sentence_pairs": {"fr-en": 200}},
                "model": {"from_pretrained": str(folder / "model")},
                "training": {"output_dir": str(folder / "run"), **TRAINING},
                "evaluation": {"depths": ["2-2"]},
            }
            (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
            assert command("train", folder / "recipe.yaml") == 0
            made[kind] = Run(folder / "run")
        return made[kind]

    return build


def first_made(output, kind: str) -> int:
    """The first token of an output after the one that is the same for all languages."""
    return output[0 if kind == "mbart" else 1]


@pytest.mark.parametrize("kind", KINDS)
def test_students_of_every_family_translate_into_their_language(trained_run, kind, tmp_path, capfd):
    run = trained_run(kind)
    student = run.members[Member("student", Depth(2, 2))]
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)
    lines = run.translations("fr-en")
    sources, kept = lines[SOURCE], lines["student-2-2"]
    assert translate(model, tokenizer, sources) == kept, "what the run kept is what anyone gets who says nothing"
    if kind == "t5":
        told, words = {}, "translate French to English: "
        ids = tokenizer(words + sources[0], return_tensors="pt")
    else:
        source, target = CODES[kind]
        told, ids = {"src_lang": "fr", "tgt_lang": "en"}, tokenizer(sources[0], return_tensors="pt")
        tokens = [f"__{code}__" if kind == "m2m" else code for code in (source, target)]
        assert (tokenizer.src_lang, tokenizer.tgt_lang) == CODES[kind]
        assert tokenizer.convert_tokens_to_ids(tokens[0]) in ids["input_ids"][0]
    output = model.generate(**ids, num_beams=1, max_length=60)[0].tolist()
    if kind != "t5":
        assert first_made(output, kind) == tokenizer.convert_tokens_to_ids(tokens[1])
    made = tokenizer.decode(output, skip_special_tokens=True)
    translator = pipeline("translation", str(student))
    for words in ({}, told):
        assert translator(sources[0], num_beams=1, max_length=60, **words)[0]["translation_text"] == made
    assert len(translator(sources[:3], batch_size=2, num_beams=1, max_length=60)) == 3

    export = ("export", student, "--to", "ctranslate2", "--output", tmp_path / "export")
    assert command(*export) == 0, capfd.readouterr().err
    proof = json.loads((tmp_path / "export" / "proof.json").read_text())
    assert proof["sentences"] == 40
    assert proof["equal"] + len(proof["ties"]) == 40
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in sources))
    capfd.readouterr()
    for place in (student, tmp_path / "export"):
        languages = ("--from", "fr", "--to", "en") if kind != "t5" else ()
        assert command("translate", place, tmp_path / "in.txt", "--num_beams", 1, "--long", "cut", *languages) == 0
        found = capfd.readouterr().out.splitlines()
        wrong = [row for row, (ours, theirs) in enumerate(zip(found, kept, strict=True)) if ours.strip() != theirs.strip()]
        assert not [(found[row], kept[row]) for row in wrong][:2]


def test_transformers_4_translates_with_them_into_the_right_language(trained_run, transformers_4):
    work, expected = [], {}
    for kind in KINDS:
        run = trained_run(kind)
        student = run.members[Member("student", Depth(2, 2))]
        source = run.translations("fr-en")[SOURCE][0]
        languages = dict(zip(("src_lang", "tgt_lang"), CODES.get(kind, ()), strict=False))
        work.append([str(student), source, languages])
        expected[str(student)] = pipeline("translation", str(student))(source, num_beams=1, max_new_tokens=38)[0][
            "translation_text"
        ]
    made = subprocess.run(
        [sys.executable, "-c", OLD, json.dumps(work)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(transformers_4), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=PATIENCE,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    found = json.loads(made.stdout.strip().splitlines()[-1])
    assert found.pop("version").startswith("4.57")
    for kind, (folder, ids) in zip(KINDS, found.items(), strict=True):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if kind != "t5":
            token = tokenizer.convert_tokens_to_ids("__en__" if kind == "m2m" else CODES[kind][1])
            assert token in ids[:2]
        if kind != "mbart":  # whose language transformers 4 puts there twice
            assert tokenizer.decode(ids, skip_special_tokens=True) == expected[folder]


@pytest.mark.parametrize("kind", KINDS)
def test_the_snippets_of_a_card_say_what_the_model_has_to_be_told(trained_run, kind, tmp_path, monkeypatch):
    """As they stand, but for where the model is."""
    run = trained_run(kind)
    student = run.members[Member("student", Depth(2, 2))]
    card = (student / "README.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", str)
    printed = []
    for snippet in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        with contextlib.redirect_stdout(io.StringIO()) as text:
            exec(snippet.replace(UNNAMED, str(student)), {})
        printed.append(text.getvalue().strip())
    assert len(printed) == 3
    (text,), (result,) = (ast.literal_eval(line) for line in printed[:2])
    assert text == result["translation_text"]
    if kind != "t5":
        assert f'src_lang="{CODES[kind][0]}", tgt_lang="{CODES[kind][1]}"' in card
