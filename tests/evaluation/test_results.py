import pytest

from hf_paretokd.cli.show import results_table
from hf_paretokd.evaluation.results import AVERAGE, ResultRow, called, group_averages, read_results, sampled_by, write_results
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.member import Member


def test_results_round_trip_and_table(tmp_path):
    rows = [
        ResultRow("teacher", "4-4", None, pair, "test", metric, value, "sig", "greedy", 1.0)
        for pair, value in (("fr-en", 80.0), ("bs-en", 60.0), (AVERAGE, 70.0))
        for metric in ("bleu", "chrf")
    ]
    rows += [
        ResultRow("teacher", "4-4", None, AVERAGE, "test", "sentences_per_second", 123.0),
        ResultRow("teacher", "4-4", None, AVERAGE, "test", "parameters", 1.5e6),
    ]
    write_results(rows, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == rows
    table = results_table(rows)
    headings = ["depth", "param.\n(M)", "fr", "bs", "mean", "chrF", "sent.\n/s"]
    assert [column.header for column in table.columns] == headings
    assert table.title == "test, greedy: BLEU of … → en"
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["4-4 teacher", "1.50", "80.0", "60.0", "70.0", "70.0", "123"]


def test_averages_over_groups_of_pairs():
    """D-26: the paper's averages, to the precision of its tables."""
    auto = {"fr": 34.09, "de": 28.77, "zh": 14.05, "et": 19.22, "ro": 26.62, "tr": 11.60}
    found = group_averages(auto, ["fr", "de", "zh"])
    assert found["average"] == pytest.approx(22.392, abs=1e-3)
    assert (found["HRL"], found["LRL"]) == pytest.approx((25.637, 19.147), abs=1e-3)
    assert group_averages(auto, []) == {"average": found["average"]}


@pytest.mark.parametrize(
    ("signature", "names"),
    [
        ("method:pareto_mutual|tau:1,5|updates:3", ["τ = 1", "τ = 5"]),
        ("method:plain|tau:1,5|unimax_epochs:0,4", ["τ = 1", "UniMax 4"]),
        ("method:plain|tau:x", []),
        ("method:plain|tau:1,2|unimax_epochs:3", []),
        (None, []),
    ],
)
def test_what_peers_sampled_by_is_in_the_signature(signature, names):
    row = ResultRow("peer", "2-2", 1, "average", "train", "updates", 3, signature)
    assert sampled_by([row]) == names
    member = Member("student", Depth(2, 2), 2)
    assert called(member, names) == ("2-2 of peer 2" + (f" ({names[1]})" if names else ""))
