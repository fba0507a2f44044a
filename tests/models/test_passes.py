"""Passes: what is run, how often, and under which dropout masks."""

import pytest
import torch
from families import FAMILIES, family, inputs

from hf_paretokd import Depth
from hf_paretokd.models.passes import Pass, distinct, run_passes


def states(passes, batch, seed=0):
    torch.manual_seed(seed)
    return [state for state, _ in run_passes(passes, batch)]


def test_equal_work_is_one_pass(new_model):
    model, other = new_model(), new_model()
    passes = [Pass(model, 1.0), Pass(model, 0.5, Depth(3, 3)), Pass(model, 2.0, Depth(2, 2)), Pass(model, 1.0, view=1)]
    runs, places = distinct([*passes, Pass(other, 1.0), Pass(model, 1.0, frozen=True)])
    assert [each.weight for each in runs] == [1.5, 2.0, 1.0, 1.0, 1.0]
    assert places == [0, 0, 1, 2, 3, 4]


def test_views_have_masks_of_their_own_and_share_them_inside(new_model, batch):
    model = new_model(dropout=0.3).train()
    first, second, third, same = states(
        [Pass(model), Pass(model, view=1), Pass(model, view=2), Pass(model, depth=Depth(3, 3))], batch
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    model.eval()
    assert torch.allclose(*states([Pass(model), Pass(model, view=1)], batch), atol=1e-6)


def test_views_that_want_the_same_depths_are_one_batch(new_model, batch):
    model, rows = new_model(), []
    model.get_encoder().layers[0].register_forward_hook(lambda _module, _inputs, output: rows.append(len(output)))
    count = len(batch["labels"])
    run_passes([Pass(model), Pass(model, view=1), Pass(model, depth=Depth(2, 2), view=2)], batch)
    assert rows == [2 * count, count]


@pytest.mark.parametrize("name", FAMILIES)
def test_input_embeddings_are_cut_on_both_sides_of_one_view(name):
    model, batch = family(name).eval(), inputs()
    uncut, cut = states([Pass(model), Pass(model, view=1, cut=0.5)], batch)
    assert torch.allclose(uncut, states([Pass(model)], batch)[0], atol=1e-5)
    assert not torch.allclose(uncut, cut, atol=1e-2)

    whole = states([Pass(model, view=1, cut=1.0)], batch)[0]
    nothing = {name: torch.zeros_like(each) if name == "input_ids" else each for name, each in batch.items()}
    assert torch.allclose(whole, states([Pass(model, view=1, cut=1.0)], nothing)[0], atol=1e-5), "nothing of the source is left"
    handles = [stack.embed_tokens._forward_hooks for stack in (model.get_encoder(), model.get_decoder())]
    assert not any(map(len, handles)), "and the model is as it was"


def test_a_frozen_model_is_a_constant(new_model, batch):
    model = new_model(dropout=0.3).train()
    (state, head), (again, _) = run_passes([Pass(model, frozen=True), Pass(model, frozen=True, view=1)], batch)
    assert not state.requires_grad
    assert not head.weight.requires_grad
    assert torch.allclose(state, again, atol=1e-6), "without dropout"
    assert model.training
    noisy = states([Pass(model, frozen=True, dropout=True), Pass(model, frozen=True, dropout=True, view=1)], batch)
    assert not torch.allclose(*noisy, atol=1e-3)
