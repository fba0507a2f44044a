import pytest
import torch
from families import DEPTHS, FAMILIES, family, inputs

from hf_paretokd import Depth, sliced
from hf_paretokd.models.head import output_head
from hf_paretokd.models.states import depth_states


@pytest.mark.parametrize("name", FAMILIES)
def test_states_of_all_depths_give_the_slices_logits(name):
    model = family(name)
    batch = inputs()
    batch["labels"][2, 4:] = -100
    head = output_head(model)
    found = {}
    with torch.no_grad():
        for depth, states in depth_states(model, batch, [Depth.parse(text) for text in DEPTHS]):
            logits = torch.nn.functional.linear(states * head.scale, head.matrix, head.bias)
            with sliced(model, depth):
                expected = model(**batch).logits[batch["labels"] != -100]
            torch.testing.assert_close(logits, expected[:, : logits.shape[1]], rtol=1e-5, atol=1e-5)
            found[str(depth)] = tuple(states.shape)
    assert found == dict.fromkeys(DEPTHS, (25, 16))
