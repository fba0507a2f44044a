import pytest

from hf_paretokd.cli.show import results_table
from hf_paretokd.evaluation.results import AVERAGE, ResultRow, group_averages, read_results, write_results


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
