from hf_paretokd.bench.methods import bench_methods, smallest_always
from hf_paretokd.bench.shapes import SHAPES
from hf_paretokd.bench.steps import Settings
from hf_paretokd.models.depth import Depth


def test_all_draws_of_the_default_form():
    draws = smallest_always(SHAPES["iwslt"])
    assert len(draws) == 14
    assert all(first == Depth(2, 2) for first, _ in draws)
    assert len({second for _, second in draws}) == 14


def test_every_method_is_measured_beside_its_bound():
    table = bench_methods(Settings("tiny", 128, 1))
    assert len(table.rows) == 13
    assert all(float(bound) > 0 and float(measured) > 0 for _, bound, measured in table.rows)
    bounds = [float(bound) for _, bound, _ in table.rows]
    assert bounds[:3] == [2, 2, 1]
    assert bounds[7:10] == [1, 26.67, 16], "χ-IBR; a third of a step for each of K passes on eight pairs; two gradients each"
    assert 1 < bounds[10] < bounds[11]
