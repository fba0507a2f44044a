"""Text of any size on disk: the same as in memory, whoever makes which part of it and however often it is cut off."""

import math
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from hf_paretokd import DataConfig, LanguagePair, load_text
from hf_paretokd.data import shards
from hf_paretokd.data.corpus import open_rows
from hf_paretokd.data.encoding import encode_told
from hf_paretokd.data.hashing import KeySet, key_of
from hf_paretokd.data.languages import Direction, directions
from hf_paretokd.errors import DataError
from hf_paretokd.layout import StoreLayout
from hf_paretokd.utils import lease

PAIR = LanguagePair("fr", "en")
ODD = [("a b", "x </s> y"), ("", "nothing"), ("  ", "blank"), ("un mot", "a word"), (" un mot ", "a word"), (">>x<< y", "tag")]


@pytest.fixture
def odd_text(text_folder, tmp_path):
    """A folder with text in which every rule finds something."""
    sides = [(text_folder / "fr-en" / f"train.{code}").read_text("utf-8").splitlines() for code in ("fr", "en")]
    rows = list(zip(*sides, strict=True))[:400]
    rows = [*rows[:150], *ODD, *rows[100:300], ("long " * 90, "long"), *ODD[3:5], *rows[250:]]
    place = tmp_path / "text" / "fr-en"
    place.mkdir(parents=True)
    for number, code in enumerate(("fr", "en")):
        (place / f"train.{code}").write_text("".join(f"{row[number]}\n" for row in rows), "utf-8")
    return tmp_path / "text"


def job_of(folder, tokenizer, split="train", **fields):
    config = DataConfig(pairs=["fr-en"], data_dir=str(folder), **fields)
    limit = config.max_sentence_pairs.get("fr-en")
    told = directions(tokenizer, [PAIR])[PAIR]
    return config, shards.Job(PAIR, split, partial(open_rows, config, split, PAIR), tokenizer, told, 12, limit)


def in_memory(config, job):
    text = load_text(config, job.split)
    encoded = encode_told(text, job.tokenizer, {PAIR: job.direction}, job.max_length)
    return text[PAIR], encoded["fr-en"]


@pytest.mark.parametrize("size", [7, 100, 100_000])
@pytest.mark.parametrize("fields", [{}, {"max_sentence_pairs": {"fr-en": 120}}])
def test_what_is_stored_is_what_would_be_in_memory(odd_text, tokenizer, tmp_path, monkeypatch, size, fields):
    monkeypatch.setattr(shards, "SHARD", size)
    monkeypatch.setattr(shards, "CHUNK", 90)
    config, job = job_of(odd_text, tokenizer, **fields)
    shards.store(job, tmp_path / "store")
    found, (text, encoded) = shards.opened(tmp_path / "store"), in_memory(config, job)
    assert found.dataset[:] == encoded[:]
    assert (len(found.counted), found.counted.skipped) == (len(text), dict(text.skipped))
    assert found.counted.examples == text.examples
    keys = np.concatenate(list(found.row_keys()), axis=1)
    assert keys[0].tolist() == [key_of(each) for each in text.sources]
    assert keys[1].tolist() == [key_of(each) for each in text.targets]
    assert not StoreLayout(tmp_path / "store").parts.exists()


def test_validation_text_keeps_what_stands_twice(odd_text, tokenizer, tmp_path):
    for code in ("fr", "en"):
        (odd_text / "fr-en" / f"train.{code}").rename(odd_text / "fr-en" / f"validation.{code}")
    config, job = job_of(odd_text, tokenizer, "validation")
    shards.store(job, tmp_path / "store")
    assert shards.opened(tmp_path / "store").dataset[:] == in_memory(config, job)[1][:]


def test_a_kill_costs_the_shard_that_was_in_the_making(odd_text, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 50)
    config, job = job_of(odd_text, tokenizer)
    made, killed, whole = [], [], shards.make_shard

    def cut(job, encoder, rows, layout, number):
        if number == 5 and not killed:
            killed.append(number)
            raise RuntimeError("killed")
        made.append(number)
        return whole(job, encoder, rows, layout, number)

    monkeypatch.setattr(shards, "make_shard", cut)
    with pytest.raises(RuntimeError, match="killed"):
        shards.store(job, tmp_path / "store")
    layout = StoreLayout(tmp_path / "store")
    assert not layout.leases
    layout.ids(1).write_bytes(b"damaged")
    layout.keys(3).unlink()
    made.clear()
    shards.store(job, tmp_path / "store")
    assert made == [1, 3, 5, *range(6, made[-1] + 1)], "and what was damaged or lost"
    assert shards.opened(tmp_path / "store").dataset[:] == in_memory(config, job)[1][:]
    made.clear()
    shards.store(job, tmp_path / "store")
    assert not made, "what is there is not made again"
    (tmp_path / "store" / "00002.arrow").write_bytes(b"damaged")
    shards.store(job, tmp_path / "store")
    assert made, "unless it is damaged"


def test_nothing_left_says_why(tmp_path, text_folder, tokenizer):
    (tmp_path / "fr-en").mkdir()
    for content, length, message in (
        ("\n \n", 64, "no usable sentence pair .2 empty side, first at .*train.fr:1"),
        ("", 64, "the files are empty"),
        ("one two three\n", 2, r"every sentence has more than 2 tokens \(max_length\)"),
    ):
        for code in ("fr", "en"):
            (tmp_path / "fr-en" / f"train.{code}").write_text(content)
        _, job = job_of(tmp_path, tokenizer)
        job = shards.Job(PAIR, "train", job.rows, tokenizer, Direction(), length)
        with pytest.raises(DataError, match=message):
            shards.store(job, tmp_path / "store")
        assert not (tmp_path / "store").exists()
        shards.shutil.rmtree(tmp_path / "store.parts")


def test_keys_are_new_once(tmp_path):
    generator = np.random.default_rng(1)
    for path in (None, tmp_path / "keys"):
        seen, reference = KeySet(path), set()
        for size in (1, 10, 70_000, 3, 90_000, 0):
            keys = generator.integers(1, 60_000 if size < 100 else 200_000, size).astype(np.uint64) << np.uint64(
                3
            )  # of which many share a place
            wanted = []
            for each in keys.tolist():
                wanted.append(each not in reference)
                reference.add(each)
            assert seen.add(keys).tolist() == wanted
        assert seen.count == len(reference)


def test_a_lease_is_one_process_s_until_it_is_gone(tmp_path):
    path = tmp_path / "a.lease"
    with lease.leased(path) as mine:
        assert mine
        with lease.leased(path) as second:
            assert not second
        os.utime(path, (1, 1))  # as if there had been no sign of life for long
        assert lease.take(path)
    assert not path.exists()
    assert lease.age(path) is None
    assert not list(tmp_path.iterdir())


def test_the_lease_of_a_dead_process_of_this_machine_is_free_at_once(tmp_path):
    path = tmp_path / "a.lease"
    with lease.leased(path) as mine:
        assert mine
        assert lease.age(path) < lease.GONE
        with lease.leased(path) as again:
            assert not again
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for machine, since in ((lease.here(), math.inf), ("elsewhere", 0.0)):
        path.write_text(f"process {process.pid} on {machine}")
        assert lease.age(path) == pytest.approx(since, abs=5)
    path.write_text(f"process {process.pid} on {lease.here()}")
    with lease.leased(path) as mine:
        assert mine
    assert lease.age(path) is None
