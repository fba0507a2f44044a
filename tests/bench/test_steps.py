import pytest
import torch

from hf_paretokd.bench.shapes import SHAPES
from hf_paretokd.bench.steps import all_in_one_step, micro_batches, naive_all_in_one_step
from hf_paretokd.models.depth import Depth


def test_the_naive_step_has_the_same_loss_and_gradients(monkeypatch):
    """It is honest: what it compares with computes the same."""
    from hf_paretokd.bench import steps

    shape, found = SHAPES["tiny"], []
    batches = micro_batches(shape, 200, 1)
    make, draws = steps.random_model, iter([[Depth(3, 2), Depth(2, 2)]] * 2)

    def model_of(shape):
        torch.manual_seed(4)
        return make(shape, dropout=0.0)

    def kept(models, loss, options=None):
        models[0].train()
        total = loss()
        total.backward()
        found.append((total.item(), [each.grad for each in models[0].parameters() if each.grad is not None]))
        return lambda: None

    monkeypatch.setattr(steps, "random_model", model_of)
    monkeypatch.setattr(steps, "updating", kept)
    all_in_one_step(shape, batches, lambda: next(draws), 1.0)
    naive_all_in_one_step(shape, batches, lambda: next(draws))
    (ours, gradients), (theirs, others) = found
    assert ours == pytest.approx(theirs, rel=1e-5)
    for mine, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-6)
