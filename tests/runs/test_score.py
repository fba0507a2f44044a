from commands import command

from hf_paretokd.runs.run import Run


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
