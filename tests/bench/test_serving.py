"""The table of everything that runs a student."""

import os
from contextlib import nullcontext

import pytest
import torch

from hf_paretokd.bench import bounds as measuring
from hf_paretokd.bench import serving as module
from hf_paretokd.bench.serving import bench_serving, of_shape, using
from hf_paretokd.errors import RecipeError


def test_threads_are_those_of_processes_inside_too(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with using(2):
        assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (2, "2")
    assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (before, "7")
    monkeypatch.delenv("OMP_NUM_THREADS")
    with using(1):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in os.environ


def test_everything_that_runs_a_student_has_a_row(monkeypatch):
    """Greedily, but for the server."""
    monkeypatch.setattr(measuring, "SECONDS", 0.02)
    monkeypatch.setattr(module, "running", lambda *_: nullcontext(0))
    monkeypatch.setattr(module, "served", lambda given, port, lines, like: like)
    table = bench_serving(of_shape("tiny", "1-1"), threads=(1,), sentences=4, repeats=1)
    assert [row[1] for row in table.rows] == [
        "3-3, generate",
        "1-1, generate",
        "1-1, CTranslate2 float32",
        "1-1, CTranslate2 int8",
        "1-1, ONNX Runtime float32",
        "1-1, ONNX Runtime int8",
        "1-1 int8, served",
    ]
    for row in table.rows:
        assert row[0] == "1"
        assert all(float(cell) > 0 for cell in row[2:])


def test_a_server_is_asked_by_one_and_by_many():
    """With beams, which nothing is bounded for."""
    table = bench_serving(of_shape("tiny", "1-1"), threads=(1,), num_beams=2, sentences=4, repeats=1)
    assert [row[1] for row in table.rows][2:] == ["1-1, CTranslate2 float32", "1-1, CTranslate2 int8", "1-1 int8, served"]
    for row in table.rows:
        assert row[3] == row[5] == ""
        assert float(row[2]) > 0
        assert float(row[4]) > 0


def test_a_shape_that_is_not_there_is_named():
    with pytest.raises(RecipeError, match="--shape: 'huge' is not one of"):
        of_shape("huge", "6-2")
