"""A run is its folder: found, loaded once, moved, read where nothing can be written or trained."""

import errno
import json
import os
import shutil

import pytest
import yaml
from commands import TINY, command

from hf_paretokd import Depth, Member, Run
from hf_paretokd.bench.serving import of_run
from hf_paretokd.cli import show
from hf_paretokd.errors import ModelError, RecipeError, TrainingError
from hf_paretokd.models import files
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.runs.choose import Budget, candidates_of, choose
from hf_paretokd.runs.recipe import load_recipe
from hf_paretokd.runs.score import score_run
from hf_paretokd.utils import files as written


@pytest.fixture
def moved(folder, tmp_path):
    """A copy of the run somewhere else, whose recipe names text that is not there."""
    place = tmp_path / "moved"
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns("checkpoints", "latency.json"))
    recipe = yaml.safe_load((place / "recipe.yaml").read_text())
    recipe["data"]["data_dir"] = str(tmp_path / "gone")
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return place


def test_a_run_knows_its_models_by_their_places(folder, tmp_path):
    run = Run(folder)
    assert [str(member.depth) for member in run.members] == ["3-2", "3-2", "2-2"]
    assert [member.folder for member in run.members] == ["teacher", "students/3-2", "students/2-2"]
    assert run.members == {member: folder / member.folder for member in run.members}
    assert run.scored == list(run.members)
    for name in ("peers/2", "peers/1", "peers/1/students/2-2", "peers/1/students/3-2", "peers/notes", "students/a-b"):
        source = folder / ("teacher" if name.startswith("peers") and "students" not in name else "students/2-2")
        shutil.copytree(source, tmp_path / name)
    for name in ("peers/1/students/3-2", "students/a-b"):
        (tmp_path / name / "config.json").unlink()
    found = Run(tmp_path).members
    assert list(found) == [Member("peer", Depth(3, 2), 1), Member("peer", Depth(3, 2), 2), Member("student", Depth(2, 2), 1)]
    with pytest.raises(ModelError, match=r"has no models yet; paretokd train .* --resume goes on"):
        _ = Run(tmp_path / "empty").members
    with pytest.raises(RecipeError, match="no such recipe"):
        _ = Run(tmp_path).recipe
    with pytest.raises(TrainingError, match=r"no finished run \(results\.json is missing\)"):
        _ = Run(tmp_path).rows


def test_models_are_loaded_when_asked_for_and_once(folder):
    run = Run(folder)
    student = Member("student", Depth(2, 2))
    model, tokenizer = run.load(student)
    assert run.load(student) == (model, tokenizer), "the same objects"
    assert model.config.decoder_layers == 2
    small, _ = run.load(Member("student", Depth(2, 1)))
    assert (small.config.encoder_layers, small.config.decoder_layers) == (2, 1), "sliced, because it was not written"


@pytest.mark.parametrize(
    ("words", "models"),
    [
        (["--model.encoder_layers", "3"], 3),  # the teacher and two students
        (["--method", "pareto_mutual", "--data.pairs", "fr-en", "bs-en", "--strategy", "bi", "--distill_at_once"], 2),
    ],
)
def test_what_comes_after_a_training_loads_every_model_once(recipe_file, monkeypatch, words, models):
    loaded = {"model": [], "tokenizer": []}

    def counting(kind, load):
        return lambda name, *rest, **more: loaded[kind].append(str(name)) or load(name, *rest, **more)

    for kind, owner in (("model", files.AutoModelForSeq2SeqLM), ("tokenizer", files.AutoTokenizer)):
        monkeypatch.setattr(owner, "from_pretrained", counting(kind, owner.from_pretrained))
    assert command("train", recipe_file, *TINY, *words) == 0
    assert len(loaded["model"]) == len(set(loaded["model"])) == models
    assert len(loaded["tokenizer"]) == 2, "one for the training and one for what comes after"


def test_a_run_that_was_moved_away_from_its_text_is_still_measured(moved, capsys):
    assert command("choose", moved, "--prefer", "smallest") == 0
    shutil.rmtree(moved / "translations")
    assert command("choose", moved) == 1
    assert "holds no scored text; score its models first: paretokd evaluate" in capsys.readouterr().err.replace("\n", "")


def test_a_moved_run_is_scored_exported_reported_and_carded_as_before(folder, moved, tmp_path, capsys):
    before, recipe = Run(folder), (moved / "recipe.yaml").read_text()
    shutil.rmtree(moved / "plots")
    assert command("evaluate", moved) == 0
    assert "contamination: not checked" in capsys.readouterr().out
    after = Run(moved)
    for member in before.scored:
        for pair in before.pairs:
            assert after.table[member, pair, "bleu"].value == before.table[member, pair, "bleu"].value
        assert (moved / member.folder / "README.md").is_file()
    assert after.contamination == before.contamination, "what was found when the text was there"
    assert after.signature == before.signature
    assert (moved / "plots" / "latency.png").is_file()
    assert command("report", moved) == 0
    assert command("push", moved, "--to", "anna/x", "--dry-run") == 0
    output = ["--to", "ctranslate2", "--output", tmp_path / "exported"]
    assert command("export", moved / "students" / "2-2", *output) == 0
    assert "80 sentences" in capsys.readouterr().out
    assert command("extract", moved, "2-1", "--output", tmp_path / "extracted") == 0
    assert (moved / "recipe.yaml").read_text() == yaml.safe_dump(yaml.safe_load(recipe), sort_keys=False, allow_unicode=True)
    assert command("evaluate", moved, "--data.data_dir", tmp_path / "elsewhere") == 1, "other text than the kept one is meant"
    assert "elsewhere is not a folder" in capsys.readouterr().err


def test_a_run_is_read_where_it_could_not_have_been_trained(moved):
    """A recipe of a GPU with half precision, on this CPU."""
    raw = yaml.safe_load((moved / "recipe.yaml").read_text())
    raw["training"] |= {"fp16": True, "bf16": False, "tf32": True}
    (moved / "recipe.yaml").write_text(yaml.safe_dump(raw))
    assert command("train", moved / "recipe.yaml", "--output_dir", moved / "again") == 1
    assert Run(moved).scored
    assert command("choose", moved) == 0
    assert command("evaluate", moved, "--evaluation.num_beams", "2") == 0
    assert command("evaluate", moved, "--num_beams", "2") == 2, "a misspelt field is refused all the same"


def test_a_folder_that_can_only_be_read(moved, monkeypatch, capsys, tmp_path):
    whole = written.write_whole

    def refused(path, content):
        if not path.is_relative_to(moved):
            return whole(path, content)
        raise OSError(refused.error, os.strerror(refused.error), str(path))

    refused.error = errno.EROFS

    for owner in (written, "hf_paretokd.runs.report", "hf_paretokd.runs.cards", "hf_paretokd.evaluation.translations"):
        monkeypatch.setattr(owner, "write_whole", refused) if owner is written else monkeypatch.setattr(
            f"{owner}.write_whole", refused
        )
    warned = []
    monkeypatch.setattr("hf_paretokd.runs.measure.logger.warning", lambda text, *rest: warned.append(text % rest))
    assert command("choose", moved, "--prefer", "smallest") == 0
    assert warned == [f"{moved / 'latency.json'}: not kept (Read-only file system)"]
    assert command("push", moved, "--to", "anna/x", "--dry-run") == 0
    assert command("evaluate", moved, "--evaluation.splits", "test", "--evaluation.num_beams", "2") == 0
    assert command("extract", moved, "2-1", "--output", tmp_path / "out") == 0
    capsys.readouterr()
    for words, done in ((("report", moved), "no report"), (("evaluate", moved), "not kept")):
        assert command(*words) == 0
        printed = capsys.readouterr()
        assert f"warning: {done}: {moved}: cannot be written (Read-only file system)" in printed.err.replace("\n", "")
        assert "BLEU of … → en" in printed.out
    refused.error = errno.ENOSPC
    assert command("report", moved) == 1, "a full disk is not what somebody meant"
    assert json.loads((moved / "results.json").read_text()), "and it is as it was"


def test_a_run_may_lie_anywhere_and_copies_in_it_are_no_members(folder, tmp_path):
    for place in (tmp_path / "students", tmp_path / "peers" / "1"):
        shutil.copytree(folder, place)
        student = next(path for path in (place / "students").iterdir())
        shutil.copytree(student, place / "students" / f"{student.name}-backup")
        shutil.copytree(student, place / "students" / f".{student.name}.unfinished")
        (place / "peers").mkdir(exist_ok=True)
        shutil.copytree(student, place / "peers" / "1.old")
        found = Run(place).members
        assert list(found) == list(Run(folder).members)
        assert {member.folder for member in found} == {path.relative_to(place).as_posix() for path in found.values()}


def test_a_model_that_is_not_there_is_named(folder):
    with pytest.raises(ModelError, match="has no 9-9 teacher; there are"):
        Run(folder).load(Member("teacher", Depth(9, 9)))


def test_depths_that_were_not_trained_are_scored_with_a_warning(folder, caplog):
    run = Run(folder, load_recipe(folder / "recipe.yaml", ["--evaluation.depths=[2-1, 2-2]"], trainable=False))
    with caplog.at_level("WARNING"):
        found = score_run(run)
    assert [each.getMessage() for each in caplog.records if "depths" in each.getMessage()] == [
        "evaluation.depths: 2-1 was not trained; its layers were never the last ones"
    ]
    assert {row.depth for row in found.rows if row.model == "student"} == {"2-2", "2-1"}


def test_a_bench_takes_a_student_and_the_text_of_a_run(folder):
    run = Run(folder)
    found = of_run(run, "2-2")
    pair, text = next(iter(run.text("test").items()))
    assert (found.pair, list(found.lines)) == (pair, list(text.sources))
    assert [str(model_depth(each)) for each in (found.teacher, found.student)] == [str(run.main.depth), "2-2"]
    assert found.direction == run.recipe.directions(found.tokenizer, found.teacher.config)[pair]
    with pytest.raises(ModelError, match="has no student 9-9; there are 3-2, 2-2"):
        of_run(run, "9-9")


@pytest.mark.parametrize("content", ["{", "[]", "3", '[{"a": 1}]'])
@pytest.mark.parametrize("name", ["results.json", "comparisons.json", "latency.json", "teacher/config.json"])
def test_a_damaged_file_of_a_run_is_named(folder, moved, capsys, name, content):
    shutil.copy(folder / "latency.json", moved)
    (moved / name).write_text(content)
    command("report", moved)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    if command("report", moved):
        assert name in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    "name",
    ["comparisons.json", "contamination.json", "trainer_state.json", "latency.json", "translations/test.bs-en/teacher.txt"],
)
def test_what_a_report_can_do_without_is_left_out(folder, moved, monkeypatch, tmp_path, name):
    shutil.copy(folder / "latency.json", moved)
    warned = []
    for owner in ("runs.run", "evaluation.latency", "evaluation.translations"):
        monkeypatch.setattr(f"hf_paretokd.{owner}.logger.warning", lambda text, *rest: warned.append(text % rest))
    (moved / name).write_bytes(b"{\xff")
    (moved / "report.html").unlink()
    assert command("report", moved) == 0
    assert (moved / "report.html").is_file()
    assert any(name in text for text in warned)
    assert command("choose", moved) == 0
    assert command("extract", moved, "2-1", "--output", tmp_path / "out") == 0


@pytest.mark.parametrize("damaged", ["results.json", "recipe.yaml"])
def test_students_come_out_of_a_damaged_run(moved, tmp_path, damaged):
    (moved / damaged).write_text("[")
    assert command("extract", moved, "2-1", "--output", tmp_path / "out") == 0
    assert (tmp_path / "out" / "2-1" / "model.safetensors").is_file()


@pytest.mark.parametrize("metric", ["bleu", "chrf", "sentences_per_second", "parameters"])
@pytest.mark.parametrize("all_models", [True, False])
def test_figures_that_are_missing_are_shown_as_missing(folder, moved, capsys, metric, all_models):
    shutil.copy(folder / "latency.json", moved)
    rows = json.loads((moved / "results.json").read_text())
    gone = [row for row in rows if row["metric"] == metric and (all_models or row["depth"] == "2-2")]
    assert gone
    (moved / "results.json").write_text(json.dumps([row for row in rows if row not in gone]))
    assert command("report", moved) == 0
    assert "<td>–</td>" in (moved / "report.html").read_text()
    show.results(Run(moved))
    assert "–" in capsys.readouterr().out or metric == "parameters", "which has no column where all are equal"
    budget = Budget(min_bleu=0.0001)
    found = choose(candidates_of(Run(moved))[1], budget)
    if metric == "bleu":
        assert found.chosen is None or not all_models
        assert "no BLEU instead of 0.0001" in budget.misses(candidates_of(Run(moved))[1][-1])
    assert command("choose", moved) == 0
    assert ("–" in capsys.readouterr().out) is (metric == "bleu")


def test_of_many_students_only_some_stay_in_memory(folder, monkeypatch):
    monkeypatch.setattr("hf_paretokd.runs.run.STUDENTS_KEPT", 1)
    run = Run(folder)
    students = [member for member in run.members if not member.whole]
    assert len(students) > 1
    for member in students:
        with run.lent(member) as loaded:
            assert loaded.model is run.model(member)
    assert [member for member in run._models if not member.whole] == students[:1]
