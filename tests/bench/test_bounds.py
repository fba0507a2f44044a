"""Bounds of decoding, against arithmetic by hand."""

import pytest
from families import family

from hf_paretokd import Depth, extract_student
from hf_paretokd.bench import bounds as measuring
from hf_paretokd.bench.bounds import Processor, Text, Weights, measured_processor
from hf_paretokd.bench.shapes import SHAPES, random_model


def test_weights_are_those_that_a_token_of_each_side_meets():
    shape = SHAPES["tiny"]
    model = extract_student(random_model(shape), Depth(3, 2))
    width, feed_forward = shape.width, 2 * shape.width * shape.inner
    encoder, cross = 3 * (4 * width**2 + feed_forward), 2 * 2 * width**2
    decoder = 2 * (6 * width**2 + feed_forward)
    assert Weights.of(model) == Weights(encoder + cross, decoder + width * shape.vocabulary)


@pytest.mark.parametrize("kind", ["mbart", "m2m100", "t5"])
def test_other_families_have_the_same_two_sides(kind):
    model = family(kind)
    found = Weights.of(model)
    matrices = [module.weight.numel() for name, module in model.named_modules() if type(module).__name__ == "Linear"]
    embeddings = model.get_output_embeddings().weight.numel()
    layers = sum(matrices) - embeddings
    assert found.source + found.target == layers + embeddings
    in_encoder = sum(each.weight.numel() for each in model.get_encoder().modules() if type(each).__name__ == "Linear")
    assert found.source > in_encoder, "keys and values of the source too"


def test_bounds_by_hand():
    """10 bytes a second are read, 100 of them where they are few; 20 multiply-adds a second in float32, 1,000 in int8."""
    machine = Processor(lambda count: 100.0 if count <= 50 else 10.0, {4: 20.0, 1: 1000.0})
    weights, text = Weights(source=40, target=60), Text(sentences=3, source=12, target=9)
    # int8: the encoder is read thrice from the cache, 0.4 s each, and multiplies for 0.48 s; the decoder is read nine times
    assert machine.one_by_one(weights, text, 1) == pytest.approx(3 * 40 / 100 + 9 * 60 / 10)
    # float32: 12 x 40 / 20 = 24 s of multiplying against 3 x 160 / 10 = 48 s of reading; 9 x 240 / 10 against 9 x 60 / 20
    assert machine.one_by_one(weights, text, 4) == pytest.approx(48 + 216)
    assert machine.together(weights, text, 4) == pytest.approx((12 * 40 + 9 * 60) / 20)
    slow = Processor(lambda _: 1e9, {1: 10.0})
    assert slow.one_by_one(weights, text, 1) == pytest.approx(12 * 4 + 9 * 6), "multiplying takes longer than reading"


def test_a_processor_is_measured(monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS", 0.02)
    found = measured_processor(1)
    assert found.multiply[1] > 0
    assert found.multiply[4] > 0
    assert found.read(100_000) == found.read(100_000) > 1e6, "measured once"
