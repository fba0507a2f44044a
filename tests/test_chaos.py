"""The short version of `make chaos`: real processes, killed by SIGKILL; saves that fail."""

import chaos
import pytest


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> chaos.Chaos:
    folder = tmp_path_factory.mktemp("chaos")
    chaos.prepare(folder)
    runs = chaos.Chaos(folder, seed=3)
    for method in ("plain", "auto"):
        runs.unbroken(method)
    return runs


@pytest.mark.parametrize("place", chaos.PLACES)
def test_killed_trainings_end_as_unbroken_ones(started, place):
    traces = []
    started.kill(place, started.kills[place] + 1, traces.append)  # kills of other places may have been here second
    assert started.problems == []
    assert any(f"killed: {place}" in trace for trace in traces)


@pytest.mark.parametrize("method", ["two_views", "word_kd", "lssd", "both"])
def test_newer_methods_survive_a_kill(started, method):
    traces = []
    started.kill("update", started.kills["update"] + 1, traces.append, method)
    assert started.problems == []


def test_faulted_saves_lose_nothing(started):
    done, problems = chaos.fault_saves(started.folder, 24, seed=3)
    assert problems == []
    assert sum(done.values()) == 24


def test_resumes_with_one_field_changed_are_refused(started):
    done = chaos.change_fields(started, "plain")
    assert started.problems == []
    assert done["plain"] > 30, "every field of the record"
