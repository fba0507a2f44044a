import re
from pathlib import Path

import numpy as np
import pytest
from commands import command

from hf_paretokd import choose_student
from hf_paretokd.errors import ModelError, RecipeError, TrainingError
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.member import Member
from hf_paretokd.runs.choose import Budget, Candidate, choose
from hf_paretokd.runs.run import Run

FAMILY = [
    Candidate(Member("student", Depth.parse(depth)), milliseconds, megabytes, bleu)
    for depth, milliseconds, megabytes, bleu in (
        ("6-6", 60.0, 13.2, 36.0),
        ("6-2", 28.0, 9.0, 34.5),
        ("4-2", 27.0, 7.5, 34.5),
        ("2-2", 25.0, 5.8, 33.0),
    )
]


def chosen(prefer: str | None = None, **limits: float) -> str | None:
    found = choose(FAMILY, Budget(**limits), prefer).chosen
    return found and str(found.member.depth)


def test_the_best_under_limits_of_time_and_size_the_smallest_under_one_of_quality():
    assert chosen() == "6-6"
    assert chosen(max_ms=30) == "4-2", "as good as 6-2 and smaller"
    assert chosen(max_ms=30, max_mb=6) == "2-2"
    assert chosen(min_bleu=34) == "4-2"
    assert chosen(min_bleu=30) == "2-2"
    assert chosen(max_ms=30, min_bleu=30) == "4-2"
    assert chosen("smallest", max_ms=30, min_bleu=30) == "2-2"
    assert chosen("fastest", min_bleu=34) == "4-2"
    assert chosen(max_ms=60.0, max_mb=13.2, min_bleu=36.0) == "6-6", "limits themselves are allowed"


def test_of_models_that_are_equal_within_noise_the_smallest_is_the_best():
    noise = np.concatenate([[0.0], np.random.default_rng(1).standard_normal(1000)])
    scores = {each.member: each.bleu + noise * share for each, share in zip(FAMILY, (1.0, 3.0, 1.0, 1.0), strict=True)}
    found = choose(FAMILY, Budget(), scores=scores)
    assert (str(found.chosen.member.depth), str(found.best.member.depth)) == ("6-2", "6-6"), "1.5 ± 4 less is no difference"
    assert choose(FAMILY, Budget(max_ms=27), scores=scores).chosen.member.depth == Depth(4, 2)
    assert choose(FAMILY, Budget(), "best", scores).chosen.member.depth == Depth(6, 6), "by BLEU alone, where that is said"
    for options in ({"prefer": "smallest"}, {"budget": Budget(min_bleu=36)}):
        found = choose(FAMILY, options.get("budget", Budget()), options.get("prefer"), scores)
        assert found.best is None
    assert choose(FAMILY, Budget()).chosen.member.depth == Depth(6, 6), "nothing is known of noise"
    some = {FAMILY[0].member: scores[FAMILY[0].member]}
    assert choose(FAMILY, Budget(), scores=some).chosen.member.depth == Depth(6, 6), "nor of all of them"


def test_when_nothing_fits_the_nearest_says_what_it_lacks():
    found = choose(FAMILY, Budget(max_ms=26, min_bleu=36))
    assert found.chosen is None
    assert str(found.nearest.member.depth) == "4-2", "4 % too slow and 4 % too bad; 2-2 is 8 % too bad"
    assert found.misses == ["27.0 ms instead of 26", "34.5 BLEU instead of 36"]
    with pytest.raises(ModelError, match="--max-ms: 0 is not positive"):
        choose(FAMILY, Budget(max_ms=0))
    with pytest.raises(ModelError, match="--prefer: 'cheapest'"):
        choose(FAMILY, Budget(), "cheapest")


def test_a_student_is_chosen_by_measured_figures(folder, capsys):
    record = Run(folder)
    costs = record.costs[1]
    found = choose_student(folder)
    assert (found.best or found.chosen).bleu == max(record.quality(member) for member in costs)
    assert record.standing[found.chosen.member] == 1
    assert found.chosen.megabytes == min(cost.megabytes for member, cost in costs.items() if record.standing[member] == 1)
    small = choose_student(folder, max_mb=min(cost.megabytes for cost in costs.values())).chosen
    assert str(small.member.depth) == "2-2"
    size = (folder / "students" / "2-2" / "model.safetensors").stat().st_size
    assert small.megabytes == pytest.approx(size / 1e6, abs=1e-3)
    assert choose_student(folder, pair="bs-en", prefer="smallest").chosen.bleu == record.quality(small.member, "bs-en")
    assert command("students", folder) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^ {member.title} ", shown, re.MULTILINE) for member in costs)
    assert f"paretokd translate {folder / 'students' / '2-2'} FILE" in shown
    assert command("choose", folder, "--prefer", "smallest") == 0
    assert str(folder / "students" / "2-2") in capsys.readouterr().out.replace("\n", "")
    assert command("choose", folder, "--engine", "ctranslate2", "--quantization", "int8", "--max-mb", "50") == 0
    assert "CTranslate2 int8" in capsys.readouterr().out
    assert command("choose", folder, "--max-mb", "0.001") == 1
    assert "nothing fits; 2-2 comes nearest, with 0." in capsys.readouterr().out
    with pytest.raises(RecipeError, match="'xx-en' was not scored; known are fr-en, bs-en"):
        choose_student(folder, pair="xx-en")
    with pytest.raises(RecipeError, match="needs --engine ctranslate2"):
        choose_student(folder, quantization="int8")
    with pytest.raises(TrainingError, match=r"no finished run \(results\.json is missing\)"):
        choose_student(folder / "students")


def test_the_commands_of_the_page_on_sharing_work_on_a_run(folder, capsys):
    page = (Path(__file__).parent.parent.parent / "docs" / "sharing.md").read_text("utf-8")
    lines = [line.partition("  #")[0] for line in page.splitlines() if re.match(r"paretokd (report|choose|push) runs", line)]
    assert len(lines) == 7
    for line in lines:
        words = line.replace("runs/my-run", str(folder)).replace("de-en", "fr-en").replace("6-2 2-2", "3-2 2-2").split()[1:]
        code = command(*words, *(["--dry-run"] if words[0] == "push" and "--dry-run" not in words else []))
        assert code == 0 or (words[0], code) == ("choose", 1), "such a model fits no budget"
