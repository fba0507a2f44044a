"""Cross-entropy on validation text for many depths of one model."""

from collections.abc import Mapping, Sequence

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel

from hf_paretokd.data.batches import PairBatches
from hf_paretokd.data.sampling import MicroBatch, PairDataset
from hf_paretokd.losses import joint_loss
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.head import output_head
from hf_paretokd.models.states import depth_states, target_tokens


@torch.no_grad()
def validation_sums(
    model: PreTrainedModel,
    pairs: Mapping[str, Dataset],
    batches: Mapping[str, PairBatches],
    depths: Sequence[Depth],
    smoothing: float,
    smoothing_variant: str,
    rank: int = 0,
    processes: int = 1,
) -> Tensor:
    """Cross-entropies of every pair and depth, from one encoder pass and one decoder pass for each encoder depth.

    Args:
        model: in evaluation mode.
        pairs: token ids of each pair.
        batches: the micro-batches of each pair.
        depths: the models to measure.
        smoothing, smoothing_variant: as in training.
        rank, processes: this process takes the micro-batches ≡ `rank` (mod `processes`).

    Returns:
        float64 [pairs, depths, 3]: smoothed cross-entropy, NLL (both summed over tokens, in nats) and tokens.
    """
    head = output_head(model)
    data = PairDataset(pairs, model.config.pad_token_id)
    sums = torch.zeros(len(pairs), len(depths), 3, dtype=torch.float64)
    position = {depth: index for index, depth in enumerate(depths)}
    for index, name in enumerate(pairs):
        for rows in batches[name].in_order()[rank::processes]:
            batch = data.fetch(MicroBatch(0, name, rows))
            batch = {key: value.to(model.device) for key, value in batch.items() if isinstance(value, Tensor)}
            targets = target_tokens(batch)
            for depth, states in depth_states(model, batch, depths):
                loss = joint_loss([states], [head], targets, smoothing, [1.0], smoothing_variant=smoothing_variant)
                found = [loss.cross_entropy.item(), loss.nll.item(), targets.numel()]
                sums[index, position[depth]] += torch.tensor(found, dtype=torch.float64)
    return sums


def validation_metrics(sums: Tensor, pairs: Sequence[str], depths: Sequence[Depth]) -> dict[str, float]:
    """Means of the sums of `validation_sums` in all the ways they are logged."""
    means = sums[..., :2] / sums[..., 2:]  # [pairs, depths, (loss, nll)]
    loss, nll = means.mean((0, 1)).tolist()
    metrics = {"loss": loss, "nll": nll}
    if len(depths) > 1:
        metrics |= {f"loss_{depth}": means[:, index, 0].mean().item() for index, depth in enumerate(depths)}
    if len(pairs) > 1:
        metrics |= {f"loss_{pair}": means[index, :, 0].mean().item() for index, pair in enumerate(pairs)}
    return metrics


def metrics_of_peers(sums: Sequence[Tensor], pairs: Sequence[str], depths: Sequence[Depth]) -> dict[str, float]:
    """`validation_metrics` on average over the models, and those of each, as `peer1_loss` …, if there are several."""
    return merged_figures([validation_metrics(each, pairs, depths) for each in sums])


def merged_figures(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Figures of every model, by name: their means, and those of each peer, as `peer1_loss` …, if there are several."""
    metrics = {name: sum(each[name] for each in figures) / len(figures) for name in figures[0]}
    if len(figures) > 1:
        metrics |= {f"peer{peer}_{name}": value for peer, each in enumerate(figures, 1) for name, value in each.items()}
    return metrics
