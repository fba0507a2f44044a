"""Text that is prepared before a training: found by it, made anew where something changed, shared by processes."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from commands import PATIENCE, TINY, command

from hf_paretokd.data import shards, stores
from hf_paretokd.errors import DataError
from hf_paretokd.models.files import load_tokenizer
from hf_paretokd.runs.recipe import load_recipe
from hf_paretokd.runs.text import new_tokenizer, prepare_text
from hf_paretokd.utils import lease


@pytest.fixture
def own_recipe(recipe_file, tmp_path):
    """A recipe with text of its own, so that nobody has prepared it."""
    recipe = yaml.safe_load(recipe_file.read_text())
    shutil.copytree(recipe["data"]["data_dir"], tmp_path / "text")
    recipe["data"]["data_dir"] = str(tmp_path / "text")
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def refuse(*words, **options):
    raise AssertionError("nothing is to be made")


def test_a_training_takes_what_was_prepared(own_recipe, tmp_path, monkeypatch, capsys):
    assert command("prepare", own_recipe, *TINY) == 0
    printed = capsys.readouterr().out
    assert "bs-en" in printed
    assert "where train finds it" in printed
    assert not (tmp_path / "run").exists()
    with monkeypatch.context() as patch:
        for place, name in ((shards, "make_shard"), (stores, "train_tokenizer")):
            patch.setattr(place, name, refuse)
        assert command("train", own_recipe, *TINY, "--method", "plain") == 0
        assert command("prepare", own_recipe, *TINY) == 0
    made = []
    whole = shards.make_shard
    monkeypatch.setattr(shards, "make_shard", lambda *words: made.append(1) or whole(*words))
    path = tmp_path / "text" / "bs-en" / "validation.en"
    os.utime(path, (1, 1))
    assert command("prepare", own_recipe, *TINY) == 0
    assert len(made) == 1, "a file that was changed is read anew, and no other"
    assert command("prepare", own_recipe, *TINY, "--data.max_sentence_pairs", '{"bs-en": 100}') == 0
    assert "100" in capsys.readouterr().out


def test_two_processes_prepare_each_shard_once(own_recipe, tmp_path):
    source = (tmp_path / "text" / "bs-en" / "train.bs").read_text().splitlines()
    target = (tmp_path / "text" / "bs-en" / "train.en").read_text().splitlines()
    for side, lines in (("bs", source), ("en", target)):
        text = "".join(f"{line} {number}\n" for number in range(20) for line in lines)
        (tmp_path / "text" / "bs-en" / f"train.{side}").write_text(text)
    script = (
        "import sys; from hf_paretokd.data import shards; shards.SHARD = 500; whole = shards.make_shard\n"
        "def told(job, encoder, rows, layout, number):\n"
        "    found = whole(job, encoder, rows, layout, number); print('made', job.split, number); return found\n"
        "shards.make_shard = told\n"
        "from hf_paretokd.cli.main import main; sys.exit(main(sys.argv[1:]))\n"
    )
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", script, "prepare", str(own_recipe), *TINY]
    both = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [each.communicate(timeout=PATIENCE)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0]
    made = sorted(line for text in printed for line in text.splitlines() if line.startswith("made train"))
    assert len(made) == len(set(made)) == 20 * len(source) // 500 + 1, "the last one is empty"
    assert not list((tmp_path / "cache").rglob("*.parts"))


def test_who_waits_for_nobody_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "GONE", 0.5)
    with pytest.raises(DataError, match="the process that prepares the text has given no sign of life"):
        stores.wait_for(tmp_path / "nothing")
    (tmp_path / "store.parts").mkdir()
    with lease.leased(tmp_path / "store.parts" / "00000.lease"):
        monkeypatch.setattr(stores.time, "sleep", lambda seconds: (tmp_path / "store").mkdir(exist_ok=True))
        stores.wait_for(tmp_path / "store")


@pytest.fixture
def hub_recipe(own_recipe, tmp_path):
    """The same text as data sets of the Hub (local ones), read as streams."""
    recipe = yaml.safe_load(own_recipe.read_text())
    pairs = recipe["data"]["pairs"]
    for pair in pairs:
        source, target = pair.split("-")
        (place := tmp_path / "sets" / pair).mkdir(parents=True)
        for split in ("train", "validation", "test"):
            sides = [(tmp_path / "text" / pair / f"{split}.{code}").read_text().splitlines() for code in (source, target)]
            rows = [{"translation": {source: first, target: second}} for first, second in zip(*sides, strict=True)]
            (place / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe["data"] = {"pairs": pairs, "hub": {pair: str(tmp_path / "sets" / pair) for pair in pairs}, "streaming": True}
    path = tmp_path / "hub.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_a_hub_data_set_is_trained_on_as_a_stream(hub_recipe, own_recipe, capsys):
    """Its token ids are those of the same text prepared; what is not known of it is not said."""
    fields = [*TINY, "--data.max_length", "12"]
    streamed, whole = load_recipe(hub_recipe, fields), load_recipe(own_recipe, fields)
    tokenizer = load_tokenizer(new_tokenizer(streamed))
    assert tokenizer.get_vocab() == load_tokenizer(new_tokenizer(whole)).get_vocab()
    found, expected = (prepare_text(recipe, tokenizer).encoded["train"] for recipe in (streamed, whole))
    for pair in expected:
        rows = dict.fromkeys((*row["input_ids"], -1, *row["labels"]) for row in found[pair])
        assert list(rows) == [(*row["input_ids"], -1, *row["labels"]) for row in expected[pair]], "but for repeated ones"
    assert command("train", hub_recipe, *TINY, "--method", "plain", "--stream_buffer", "200") == 0
    printed = capsys.readouterr().out
    assert "a stream" in printed
    assert "passes" not in printed
    assert command("prepare", hub_recipe, *TINY) == 1
    assert "data.streaming: text that is read as it comes is not prepared" in capsys.readouterr().err
    assert command("train", own_recipe, *TINY, "--data.streaming", "true") == 1
    assert "data.streaming: is for Hub data sets" in capsys.readouterr().err
