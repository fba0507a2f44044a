"""What workers of a Ray cluster do, without Ray, and what is said where it is not there; the rest is in tests/ray_check.py."""

import sys

import pytest
from commands import TINY, command

from hf_paretokd.data import shards
from hf_paretokd.errors import DataError, RecipeError
from hf_paretokd.models.files import load_tokenizer
from hf_paretokd.runs import cluster as module
from hf_paretokd.runs.cluster import Cluster, own_error
from hf_paretokd.runs.distill import distill
from hf_paretokd.runs.recipe import load_recipe
from hf_paretokd.runs.text import new_tokenizer, prepare_text


@pytest.fixture
def without_a_cluster(monkeypatch):
    """Workers are called here, one after the other."""

    def done(self, items, worker, **given):
        made = worker(**given)
        yield from (made(item) for item in reversed(items))

    monkeypatch.setattr(Cluster, "done", done)


def test_workers_prepare_what_one_process_prepares(recipe_file, tmp_path, monkeypatch, without_a_cluster):
    monkeypatch.setattr(shards, "SHARD", 200)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    recipe = load_recipe(recipe_file, TINY, trainable=False)
    folder = new_tokenizer(recipe)
    module.prepare_on(Cluster("local", 2), recipe.raw, str(folder))
    made = []
    monkeypatch.setattr(shards, "make_shard", lambda *words: made.append(words))
    found = prepare_text(recipe, load_tokenizer(folder)).encoded["train"]["bs-en"]
    assert not made, "all shards were there, only to be put together"
    monkeypatch.undo()
    assert found[:] == prepare_text(recipe, load_tokenizer(folder)).encoded["train"]["bs-en"][:]


def test_workers_translate_what_one_process_translates(folder, tmp_path, monkeypatch, without_a_cluster):
    monkeypatch.setattr("hf_paretokd.runs.distill.SHARD", 200)
    for name, cluster in (("alone", None), ("spread", Cluster("local"))):
        distill(str(folder / "students" / "2-2"), tmp_path / name, num_beams=1, cluster=cluster)
    for pair in ("fr-en", "bs-en"):
        for side in pair.split("-"):
            alone, spread = (tmp_path / name / pair / f"train.{side}" for name in ("alone", "spread"))
            assert alone.read_bytes() == spread.read_bytes()
            assert len(alone.read_text().splitlines()) > 200


def test_what_is_wrong_with_a_cluster_is_said(recipe_file, monkeypatch, capsys):
    with pytest.raises(RecipeError, match="'nonsense' is not host:port, auto or local"):
        module.check_answers("nonsense")
    with pytest.raises(RecipeError, match=r"the cluster 127\.0\.0\.1:1 cannot be reached \(Connection refused\)"):
        module.check_answers("127.0.0.1:1")
    with pytest.raises(RecipeError, match="--ray_workers: 0 is not 1 or more"):
        Cluster("local", 0)
    assert command("prepare", recipe_file, *TINY, "--ray_workers", "2") == 2
    assert "give --ray ADDRESS, too" in capsys.readouterr().err
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert command("prepare", recipe_file, *TINY, "--ray", "local") == 1
    assert "Ray is not installed (pip install 'hf_paretokd[ray]')" in capsys.readouterr().err
    assert "ray" not in sys.modules


def test_what_a_worker_says_is_said():
    class OfRay(Exception):
        cause = DataError("a.txt:3: not UTF-8")

    assert str(own_error(OfRay("much more"))) == "a.txt:3: not UTF-8"
    assert "a worker failed: no memory; start again" in str(own_error(RuntimeError("traceback\n  no memory\n")))
