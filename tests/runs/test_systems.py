"""Runs side by side: what is compared with what, means and tests over seeds, depths and pairs, costs, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import command

from hf_paretokd.errors import RecipeError, TrainingError
from hf_paretokd.evaluation.bootstrap import SEED, draws, estimate, paired_test, resampled
from hf_paretokd.evaluation.plots import literal
from hf_paretokd.evaluation.significance import paired_bootstrap
from hf_paretokd.runs.run import Run
from hf_paretokd.runs.systems import compare_systems, systems_of

PAIRS = ("fr-en", "bs-en")


def edit(run: Path, change, file="results.json"):
    """Changes the rows of a copy of a run."""
    rows = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps([row for row in map(change, rows) if row]))


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """An All-in-One run; copies of it stand for another seed, models alone, and peers, with translations of their own."""
    place = tmp_path_factory.mktemp("systems")
    for name in ("aio", "aio-2", "small", "large", "peers"):
        shutil.copytree(folder, place / name)
    for name, rate in (("aio", 0), ("aio-2", 9), ("small", 4), ("large", 5), ("peers", 3)):
        for path in (place / name / "translations").glob("*/*.txt"):
            if path.stem not in ("source", "reference"):  # references, of which some words are left out
                reference = (path.parent / "reference.txt").read_text("utf-8").splitlines()
                keep = 3 + rate + len(path.stem) % 4
                made = [
                    " ".join(word for at, word in enumerate(line.split()) if (at + row) % keep)
                    for row, line in enumerate(reference)
                ]
                path.write_text("\n".join(made) + "\n", "utf-8")
    edit(place / "aio-2", lambda row: {**row, "signature": other_seed(row["signature"])})
    for name, wanted in (("small", "2-2"), ("large", "3-2")):
        edit(place / name, lambda row, wanted=wanted: alone(row, wanted))
        source = "student-2-2" if wanted == "2-2" else "student-3-2"
        for path in (place / name / "translations").glob(f"*/{source}.txt"):
            path.rename(path.with_name("model.txt"))
    edit(place / "peers", peer)
    for path in (place / "peers" / "translations").glob("*/student-3-2.txt"):
        path.rename(path.with_name("peer-1.txt"))
    return place


def other_seed(signature):
    if not (signature or "").startswith("method:"):
        return signature
    return "|".join("seed:2" if part.startswith("seed:") else part for part in signature.split("|"))


def alone(row, wanted):
    """The row of a model that was trained alone, four times as fast."""
    if row["split"] == "train":
        value = row["value"] / 4 if row["metric"].endswith("_hours") else row["value"]
        return {**row, "model": "model", "depth": wanted, "value": value}
    return {**row, "model": "model"} if (row["model"], row["depth"]) == ("student", wanted) else None


def peer(row):
    """The row of a peer."""
    if row["split"] == "train":
        return {**row, "model": "peer", "peer": 1}
    return {**row, "model": "peer", "peer": 1} if (row["model"], row["depth"]) == ("student", "3-2") else None


def scored(run, stem, pair, seed=None):
    """Scores on the text and on its resamples, from the files."""
    place = run / "translations" / f"test.{pair}"
    lines, references = ((place / f"{name}.txt").read_text("utf-8").split("\n")[:-1] for name in (stem, "reference"))
    return resampled(lines, references, "en", "bleu", draws(len(lines), SEED if seed is None else seed))


def entry(found, system, model):
    (each,) = [each for each in found.entries if (each.system, each.model) == (system, model)]
    return each


def test_a_family_beside_models_trained_alone(runs):
    words = [f"alone={runs / 'small'},{runs / 'large'}", f"aio={runs / 'aio'}", f"aio={runs / 'aio-2'}"]
    found = compare_systems(*systems_of(words))
    assert (found.baseline, found.split, found.decoding) == ("alone", "test", "greedy")
    assert list(found.signatures) == list(PAIRS)
    seeds = [runs / "aio", runs / "aio-2"]
    for depth, single in (("2-2", "small"), ("3-2", "large")):
        both = {pair: np.mean([scored(run, f"student-{depth}", pair) for run in seeds], axis=0) for pair in PAIRS}
        other = {pair: scored(runs / single, "model", pair) for pair in PAIRS}
        mine = entry(found, "aio", depth)
        assert mine.seeds == 2
        assert mine.score == estimate((both["fr-en"] + both["bs-en"]) / 2)
        expected = paired_test(sum(both.values()) / 2, sum(other.values()) / 2)
        assert mine.difference == expected
        assert mine.by_pair == {pair: paired_test(both[pair], other[pair]) for pair in PAIRS}
        values = [paired_test(both[pair], other[pair]) for pair in PAIRS]
        for sign in (1, -1):
            ahead = [each for each in values if each.value * sign > 0]
            assert mine.wins(sign) == (len(ahead), sum(each.significant for each in ahead))
        assert mine.wins(1) != mine.wins(-1)
        assert entry(found, "alone", depth).difference is None
    depths = entry(found, "aio", "mean")
    whole = [
        np.mean([scored(run, f"student-{depth}", pair) for run in seeds for pair in PAIRS], axis=0) for depth in ("3-2", "2-2")
    ]
    rest = [np.mean([scored(runs / name, "model", pair) for pair in PAIRS], axis=0) for name in ("large", "small")]
    expected = paired_test(np.mean(whole, axis=0), np.mean(rest, axis=0))
    assert depths.difference.value == pytest.approx(expected.value)
    assert depths.difference.p_value == expected.p_value
    p_values = sorted(each.difference.p_value for each in found.entries if each.difference)
    adjusted = sorted(each.adjusted for each in found.entries if each.difference)
    assert len(p_values) == 3, "and no differences but those named"
    assert adjusted[0] == pytest.approx(min(1, 3 * p_values[0]))
    assert found.resolution == max(
        (each.difference.high - each.difference.low) / 2 for each in found.entries if each.difference
    )


def test_scores_are_those_of_the_runs_and_agree_with_the_test_of_a_run(runs):
    found = compare_systems(*systems_of([str(runs / "aio"), str(runs / "large")]))
    place = runs / "aio" / "translations" / "test.fr-en"
    lines = {name: (place / f"{name}.txt").read_text("utf-8").split("\n")[:-1] for name in ("student-3-2", "reference")}
    expected = paired_bootstrap({"3-2": lines["student-3-2"]}, lines["reference"], "en").scores["bleu"]["3-2"]
    mine = entry(found, "aio", "3-2").pairs["fr-en"]
    assert mine.value == pytest.approx(expected.value)
    assert (mine.low, mine.high) == (pytest.approx(expected.low, abs=0.15), pytest.approx(expected.high, abs=0.15))


def test_costs(runs):
    words = [f"alone={runs / 'small'},{runs / 'large'}", f"aio={runs / 'aio'},{runs / 'aio-2'}"]
    systems, baseline = systems_of(words, "alone")
    hours = {name: Run(runs / name).training["core_hours"].value for name in ("small", "large", "aio")}
    found = compare_systems(systems, baseline, "cost")
    assert found.unit == "core-hours of all its models"
    assert entry(found, "alone", "2-2").cost == pytest.approx(hours["small"] + hours["large"])
    assert entry(found, "aio", "2-2").cost == pytest.approx(hours["aio"]), "one training of two seeds"
    assert entry(compare_systems(systems, baseline, "updates"), "aio", "2-2").cost == 20
    best = Run(runs / "aio").training["best_update"].value
    assert entry(compare_systems(systems, baseline, "best"), "aio", "3-2").cost == best


def test_peers_stand_beside_models_of_their_depth(runs, tmp_path, capsys):
    found = compare_systems(*systems_of([str(runs / "large"), str(runs / "peers")]))
    expected = [
        np.mean([scored(runs / run, stem, pair) for pair in PAIRS], axis=0)
        for run, stem in (("peers", "peer-1"), ("large", "model"))
    ]
    assert entry(found, "peers", "3-2 of peer 1").difference == paired_test(*expected)
    found = compare_systems(*systems_of([str(runs / "peers"), str(runs / "large")]))
    assert entry(found, "large", "3-2").difference is None, "which peer is meant nobody says"
    assert command("compare", runs / "peers", runs / "large", "--output", tmp_path / "out") == 0
    assert "not compared, because peers has no model of that depth, or several: large 3-2" in capsys.readouterr().out
    assert command("compare", runs / "peers", "--output", runs / "peers" / "plots") == 1
    assert "lies inside" in capsys.readouterr().err


def test_names_are_drawn_as_they_are(runs, tmp_path):
    pytest.importorskip("matplotlib")
    words = [f"a$\\foo$={runs / 'large'}", f"_b={runs / 'aio'}"]
    assert command("compare", *words, "--output", tmp_path / "out") == 0
    assert literal("a$\\foo$") == r"a\$\foo\$"
    assert not literal("_b").startswith("_")


def test_models_of_one_pair_each_are_a_system(runs, tmp_path):
    """As of bilingual baselines."""
    places = []
    for pair in PAIRS:
        places.append(shutil.copytree(runs / "large", tmp_path / f"large-{pair}"))
        edit(places[-1], lambda row, pair=pair: None if row["pair"] in PAIRS and row["pair"] != pair else row)
    words = [f"bilingual={','.join(map(str, places))}", str(runs / "aio")]
    for order in (words, words[::-1]):
        found = compare_systems(*systems_of(order, "bilingual"), "cost")
        mine = entry(found, "bilingual", "3-2")
        assert mine.score == entry(compare_systems(*systems_of([str(runs / "large")])), "large", "3-2").score
        assert mine.cost == pytest.approx(2 * Run(runs / "large").training["core_hours"].value)
        assert list(entry(found, "aio", "3-2").by_pair) == list(PAIRS)


def test_names_of_systems(runs, tmp_path, monkeypatch):
    shutil.copytree(runs / "aio", tmp_path / "aio")
    systems, baseline = systems_of([str(runs / "aio"), str(tmp_path / "aio")], str(tmp_path / "aio"))
    assert [system.name for system in systems] == [str(runs / "aio"), str(tmp_path / "aio")]
    assert baseline == str(tmp_path / "aio")
    monkeypatch.chdir(runs)
    systems, baseline = systems_of(["aio", "small"], "large")
    assert ([system.name for system in systems], baseline) == (["large", "aio", "small"], "large")
    (tmp_path / "a=b").mkdir()
    with pytest.raises(RecipeError, match="a=b: is a folder in which there is no run and no model; give a run"):
        systems_of([str(tmp_path / "a=b")])
    shutil.copy(tmp_path / "aio" / "recipe.yaml", tmp_path / "a=b")
    with pytest.raises(RecipeError, match="a=b: is a folder with a recipe that has not been trained there"):
        systems_of([str(tmp_path / "a=b")])
    (tmp_path / "a=b" / "log.jsonl").touch()
    with pytest.raises(TrainingError, match=r"no finished run .*; paretokd train .* --resume goes on"):
        systems_of([str(tmp_path / "a=b")])


def test_the_command_prints_writes_and_draws(runs, tmp_path, capsys):
    words = [f"alone={runs / 'small'},{runs / 'large'}", f"aio={runs / 'aio'},{runs / 'aio-2'}"]
    assert command("compare", *words, "--baseline", "alone", "--axis", "cost", "--output", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    for text in ("against alone", "seeds", "(Holm)", "core-", "resolved here: differences of", "comparison.json"):
        assert text in shown
    kept = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert kept["baseline"] == "alone"
    assert {each["model"] for each in kept["entries"]} == {"3-2", "2-2", "mean"}
    assert kept["entries"][-1]["difference"]["p_value"] <= kept["entries"][-1]["adjusted"]
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000


def spoilt(runs, tmp_path, change):
    shutil.copytree(runs / "large", tmp_path / "spoilt")
    change(tmp_path / "spoilt")
    return str(tmp_path / "spoilt")


def test_hours_of_seeds_that_were_not_scored_alike(runs, tmp_path):
    """Trainings that share a model are repetitions, whatever else of them was scored."""
    fewer = shutil.copytree(runs / "aio-2", tmp_path / "fewer")
    edit(fewer, lambda row: None if row["depth"] == "2-2" and row["split"] == "test" else row)
    found = compare_systems(*systems_of([f"aio={runs / 'aio'},{fewer}"]), "cost")
    assert entry(found, "aio", "3-2").cost == pytest.approx(Run(runs / "aio").training["core_hours"].value)
    assert [entry(found, "aio", model).seeds for model in ("3-2", "2-2", "mean")] == [2, 1, 1]


def test_aligned_texts_are_drawn_alike(runs):
    """Both pairs have the same references here, so that their scores are those of one draw."""
    found = compare_systems(*systems_of([str(runs / "aio"), str(runs / "aio-2")]))
    both = [scored(runs / "aio", "student-3-2", pair) for pair in PAIRS]
    same = scored(runs / "aio", "student-3-2", "bs-en", SEED)
    kept = {pair: (runs / "aio" / "translations" / f"test.{pair}" / "reference.txt").read_text("utf-8") for pair in PAIRS}
    assert (kept["fr-en"] == kept["bs-en"]) == np.array_equal(both[0][:1], same[:1])
    assert entry(found, "aio", "3-2").score == estimate((both[0] + both[1]) / 2)


def rewrite(name, change):
    def spoil(run):
        path = run / "translations" / "test.fr-en" / name
        path.write_text(change(path.read_text("utf-8")), "utf-8")

    return spoil


def rows(**changes):
    return lambda run: edit(run, lambda row: {**row, **changes} if row["pair"] == "fr-en" and row["metric"] == "bleu" else row)


def without(metric):
    return lambda run: edit(run, lambda row: None if row["metric"] == metric else row)


@pytest.mark.parametrize(
    ("change", "axis", "message"),
    [
        (
            rewrite("reference.txt", lambda text: text.replace("\n", ".\n", 3)),
            "updates",
            "text of fr-en differs, first in line 1 of the ref",
        ),
        (
            rewrite("source.txt", lambda text: text.replace("\n", ".\n", 3)),
            "updates",
            "text of fr-en differs, first in line 1 of the source",
        ),
        (rows(signature="other"), "updates", "their signature of fr-en is 'other' and "),
        (rows(decoding="beam 5"), "updates", "their decoding of fr-en is 'beam 5' and 'greedy'"),
        (
            lambda run: (run / "translations" / "test.fr-en" / "model.txt").unlink(),
            "updates",
            "keeps no translations of fr-en by 3-2",
        ),
        (
            lambda run: (run / "translations" / "test.fr-en" / "reference.txt").unlink(),
            "updates",
            "keeps no translations of fr-en",
        ),
        (lambda run: edit(run, lambda row: row if row["split"] == "train" else None), "updates", "its models were not scored"),
        (without("core_hours"), "cost", "--axis cost: a run of spoilt does not say what its training took"),
        (
            lambda run: edit(run, lambda row: {**row, "metric": row["metric"].replace("core_", "gpu_")}),
            "cost",
            r"core-hours \(aio\), GPU",
        ),
    ],
    ids=["references", "sources", "signature", "decoding", "translations", "reference", "unscored", "hours", "units"],
)
def test_what_cannot_be_compared(change, axis, message, runs, tmp_path):
    with pytest.raises(RecipeError, match=message):
        compare_systems(*systems_of([str(runs / "aio"), spoilt(runs, tmp_path, change)]), axis)


def test_other_counts_other_trainings_and_other_pairs(runs, tmp_path):
    def shorter(run):
        for path in (run / "translations" / "test.fr-en").glob("*.txt"):
            path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")

    with pytest.raises(RecipeError, match=r"text of fr-en has \d+ and \d+ sentences"):
        compare_systems(*systems_of([str(runs / "aio"), spoilt(runs, tmp_path, shorter)]))
    signed = shutil.copytree(runs / "large", tmp_path / "signed" / "large")
    edit(signed, lambda row: {**row, "signature": (row["signature"] or "").replace("method:all_in_one", "method:plain")})
    with pytest.raises(RecipeError, match=r"aio: .*aio and .*large both have a 3-2 and differ in more than their seed \(meth"):
        compare_systems(*systems_of([f"aio={runs / 'aio'},{signed}"]))
    other = shutil.copytree(runs / "aio-2", tmp_path / "other")
    raw = yaml.safe_load((other / "recipe.yaml").read_text("utf-8"))
    raw["model"]["dropout"] = 0.5
    (other / "recipe.yaml").write_text(yaml.safe_dump(raw), "utf-8")
    with pytest.raises(RecipeError, match=r"differ in more than their seed \(model\.dropout was 0\.1, now 0\.5\)"):
        compare_systems(*systems_of([f"aio={runs / 'aio'},{other}"]))
    half = shutil.copytree(runs / "large", tmp_path / "half")
    edit(half, lambda row: None if row["pair"] == "bs-en" else row)
    with pytest.raises(RecipeError, match="half: 3-2 was not scored on bs-en, as others were"):
        compare_systems(*systems_of([str(runs / "aio"), str(half)]))
    for words, baseline, message in (
        ([f"x={runs / 'aio'},"], None, "'' is no folder; give folders of finished runs, or NAME=RUN,RUN"),
        ([f"x={runs / 'aio'},{runs / 'aio'}"], None, "is named twice"),
        ([str(runs / "aio")], "nowhere", "--baseline: 'nowhere' is neither a run nor one of"),
        ([f"x={runs / 'aio'},{runs / 'small'}"], str(runs / "small"), "is one of several runs of a system"),
    ):
        with pytest.raises(RecipeError, match=message):
            systems_of(words, baseline)
