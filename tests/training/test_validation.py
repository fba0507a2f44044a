"""Figures of a validation from its sums, by hand."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from hf_paretokd.data.sampling import build_pair_batches
from hf_paretokd.models.depth import Depth
from hf_paretokd.training.validation import metrics_of_peers, validation_metrics, validation_sums

DEPTHS = [Depth(2, 2), Depth(2, 1)]
# (smoothed, plain, tokens) of two pairs of very different sizes, in two depths
SUMS = torch.tensor([[[20.0, 10.0, 10], [30.0, 20.0, 10]], [[400.0, 300.0, 100], [700.0, 600.0, 100]]])


def test_pairs_and_depths_count_alike_whatever_their_size():
    """AIO Eq. 9: the mean over pairs of the mean over depths."""
    assert validation_metrics(SUMS, ["fr-en", "bs-en"], DEPTHS) == {
        "loss": pytest.approx((2 + 3 + 4 + 7) / 4),
        "nll": pytest.approx((1 + 2 + 3 + 6) / 4),
        "loss_2-2": pytest.approx(3),
        "loss_2-1": pytest.approx(5),
        "loss_fr-en": pytest.approx(2.5),
        "loss_bs-en": pytest.approx(5.5),
    }


def test_peers_count_alike():
    found = metrics_of_peers([SUMS[:1, :1], SUMS[1:, 1:]], ["fr-en"], DEPTHS[:1])
    assert found == {"loss": 4.5, "nll": 3.5, "peer1_loss": 2, "peer1_nll": 1, "peer2_loss": 7, "peer2_nll": 6}


def test_sums_are_those_of_torch(new_model, encoded, tokenizer):
    """Smoothed and plain cross-entropies of all target tokens, one sentence at a time."""
    model, pairs = new_model().eval(), {"fr-en": encoded["validation"]["fr-en"].select(range(20))}
    found = validation_sums(model, pairs, build_pair_batches(pairs, 200), [Depth(3, 3)], 0.1, "torch")
    expected = torch.zeros(3, dtype=torch.float64)
    for row in pairs["fr-en"]:
        targets = torch.tensor(row["labels"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]]), labels=targets[None]).logits[0]
        known = logits[:, : tokenizer.pad_token_id]
        smoothed, plain = (cross_entropy(known, targets, reduction="sum", label_smoothing=each) for each in (0.1, 0.0))
        expected += torch.tensor([smoothed.item(), plain.item(), len(targets)])
    torch.testing.assert_close(found[0, 0], expected, rtol=1e-5, atol=1e-5)
