"""Multiply-adds of layers and output matrix a token: what ratios of times should be if nothing else cost anything."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import product

from hf_paretokd.bench.shapes import Shape
from hf_paretokd.models.depth import Depth, candidate_depths

DRAWS = 60


def layer_costs(shape: Shape) -> tuple[int, int, int]:
    """Multiply-adds of an encoder layer, a decoder layer and the output matrix, forwards, at equal lengths."""
    attention, feed_forward = 4 * shape.width**2, 2 * shape.width * shape.inner
    return attention + feed_forward, 2 * attention + feed_forward, shape.width * shape.vocabulary


def shared_cost(shape: Shape, depths: Iterable[Depth]) -> int:
    """One encoder pass, one decoder pass for each encoder depth, one output product for each different model."""
    encoder, decoder, output = layer_costs(shape)
    deepest: dict[int, int] = defaultdict(int)
    models = set(depths)
    for depth in models:
        deepest[depth.encoder] = max(deepest[depth.encoder], depth.decoder)
    return max(deepest) * encoder + sum(deepest.values()) * decoder + len(models) * output


def separate_cost(shape: Shape, depths: Iterable[Depth]) -> int:
    """A whole pass for every model."""
    encoder, decoder, output = layer_costs(shape)
    return sum(depth.encoder * encoder + depth.decoder * decoder + output for depth in depths)


def recomputed_cost(shape: Shape, depths: Sequence[Depth]) -> float:
    """As `shared_cost`, with one more output product, a third of its forward and backward cost, for each model."""
    return shared_cost(shape, depths) + len(set(depths)) * layer_costs(shape)[2] / 3


def expected_ratio(shape: Shape, students: int, cost: Callable[[Shape, Sequence[Depth]], float]) -> float:
    """Mean cost over all draws of so many students, beside a plain step."""
    full, candidates = Depth(shape.layers, shape.layers), candidate_depths(Depth(shape.layers, shape.layers))
    draws = [[full, *draw] for draw in product(candidates, repeat=students)]
    return sum(cost(shape, draw) for draw in draws) / len(draws) / shared_cost(shape, [full])


def fixed_draws(shape: Shape, students: int, count: int = DRAWS) -> list[list[Depth]]:
    """A fixed list of draws whose mean cost is within 1 % of the expectation: the first seed that gives one."""
    full, candidates = Depth(shape.layers, shape.layers), candidate_depths(Depth(shape.layers, shape.layers))
    wanted = expected_ratio(shape, students, shared_cost) * shared_cost(shape, [full])
    for seed in range(1000):
        generator = random.Random(seed)
        draws = [generator.choices(candidates, k=students) for _ in range(count)]
        mean = sum(shared_cost(shape, [full, *draw]) for draw in draws) / count
        if abs(mean / wanted - 1) < 0.01:
            return draws
    raise AssertionError("no seed gives draws of the expected cost")


def typical_draw(shape: Shape, students: int) -> list[Depth]:
    """Of a fixed list of draws, the one whose cost is nearest to their mean."""
    full, draws = Depth(shape.layers, shape.layers), fixed_draws(shape, students)
    costs = [shared_cost(shape, [full, *draw]) for draw in draws]
    mean = sum(costs) / len(costs)
    return min(zip(costs, draws, strict=True), key=lambda each: abs(each[0] - mean))[1]
