"""The equations of samplers that learn: from losses, rewards and uncertainties to shares of language pairs."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SCORER_STEPS, SCORER_RATE = 200, 1e-4
LEAST = 0.2  # of a pair's share of the text


def chi_square_shares(sizes: Sequence[float], excess: Sequence[float], radius: float) -> list[float]:
    """The q that maximises Σ q·s within ½·Σ p·(q/p − 1)² ≤ ρ, p being the shares of the sizes (Zhou et al., EMNLP 2021).

    q ∝ p·max(s − η, 0), with q/p at least 0.2, η found by bisection; then no share is below the smallest of p.

    Args:
        sizes: sentence pairs of each language pair.
        excess: s, its loss beyond that of the baseline.
        radius: ρ.
    """
    p = torch.tensor(sizes, dtype=torch.float64)
    p, s = p / p.sum(), torch.tensor(excess, dtype=torch.float64)
    if not radius:
        return p.tolist()
    low, high = s.min() - 1.0, s.max()

    def shares(eta: Tensor) -> Tensor:
        q = p * (s - eta).clamp(min=0)
        q = q if q.sum() > 0 else p * (s == s.max())
        q = torch.maximum(q / q.sum(), LEAST * p)
        return q / q.sum()

    def distance(q: Tensor) -> Tensor:
        return 0.5 * (p * (q / p - 1).square()).sum()

    while distance(shares(low)) > radius:  # the lower η, the nearer to p
        low = s.max() - 2 * (s.max() - low)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if distance(shares(middle)) <= radius else (low, middle)
    q = torch.maximum(shares(low), p.min())
    return (q / q.sum()).tolist()


def scored(scores: Sequence[float], rewards: Sequence[float]) -> list[float]:
    """The scores ψ of P(ℓ) = softmax(ψ) after 200 steps of Adam on −Σ r·log softmax(ψ) (MultiDDS, MultiUAT)."""
    psi = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    adam, weights = torch.optim.Adam([psi], lr=SCORER_RATE), torch.tensor(rewards, dtype=torch.float64)
    for _ in range(SCORER_STEPS):
        adam.zero_grad()
        (-(weights * F.log_softmax(psi, dim=0)).sum()).backward()
        adam.step()
    return psi.tolist()


def variances(best: Tensor) -> Tensor:
    """var_t of log p of a sentence's likeliest tokens; one token varies by nothing."""
    return best.var() if len(best) > 1 else best.new_zeros(())


MEASURES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {  # of log p of the likeliest tokens, and entropies, of a sentence
    "pre_tp": lambda best, entropy: 1 - best.sum().exp(),
    "exp_tp": lambda best, entropy: 1 - best.mean().exp(),
    "var_tp": lambda best, entropy: variances(best),
    "com_tp": lambda best, entropy: (variances(best) / best.mean()).exp(),
    "ent_tp": lambda best, entropy: entropy.mean(),
    "ent_eos": lambda best, entropy: entropy[-1],
}


def uncertainty(measure: str, log_probs: Tensor, lengths: Sequence[int]) -> float:
    """How uncertain a model is of sentences, on average over them (Wu et al., EMNLP 2021); of `ent_tp` over their tokens.

    Args:
        measure: one of `MEASURES`.
        log_probs: [target tokens, vocabulary], sentence after sentence, `</s>` included.
        lengths: target tokens of each sentence.
    """
    best, entropy = log_probs.max(-1).values, -(log_probs.exp() * log_probs).sum(-1)
    if measure == "ent_tp":
        return float(entropy.mean())
    each = [MEASURES[measure](*parts) for parts in zip(best.split(list(lengths)), entropy.split(list(lengths)), strict=True)]
    return float(torch.stack(each).mean())
