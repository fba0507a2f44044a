import shutil

from commands import command

from hf_paretokd.evaluation.results import read_results, write_results
from hf_paretokd.runs.run import Run
from hf_paretokd.runs.score import training_rows


def test_evaluating_again_keeps_what_the_training_took(folder, capsys):
    before = (folder / "results.json").read_text()
    assert command("evaluate", folder, "--evaluation.num_beams", "2") == 0
    assert "left as it is, because other things were measured (num_beams)" in capsys.readouterr().out.replace("\n", " ")
    assert (folder / "results.json").read_text() == before
    (folder / "comparisons.json").unlink()
    assert command("evaluate", folder, "--evaluation.baselines", str(folder)) == 0
    again = Run(folder)
    assert again.signature
    assert {row.metric for row in again.rows if row.split == "train"} >= {"updates", "training_seconds", "core_hours"}
    twins = [each for each in again.comparisons if each.against == "run: student-2-2" and each.system == "student-2-2"]
    assert [(each.difference, each.p_value) for each in twins] == [(0.0, 1.0)] * 4


def test_what_was_never_scored_is_scored_as_it_is_told(folder, tmp_path, capsys):
    """A run that was trained without `evaluation.splits`; the remedy that is named helps."""
    run = Run(shutil.copytree(folder, tmp_path / "run"))
    (run.layout.recipe).write_text(run.layout.recipe.read_text().replace("evaluation:\n", "evaluation:\n  splits: []\n"))
    shutil.rmtree(run.layout.translations)
    write_results([row for row in read_results(run.layout.results) if row.split == "train"], run.layout.results)
    assert command("students", run.folder) == 1
    words = capsys.readouterr().err.replace("\n", " ").split("paretokd ")[1].split()
    assert words == ["evaluate", str(run.folder), "--evaluation.splits", "test"]
    assert command(*words) == 0
    assert command("students", run.folder) == 0


def test_the_loss_of_a_training_is_a_loss(new_trainer):
    """Also where the best is chosen by something else."""
    fields = {"predict_with_generate": True, "metric_for_best_model": "chrf", "generation_max_length": 12}
    trainer = new_trainer(max_steps=2, eval_steps=1, **fields)
    trainer.train()
    losses = {line["step"]: line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line}
    figures = {row.metric: row.value for row in training_rows(trainer)}
    assert figures["validation_loss"] == losses[figures["best_update"]]
