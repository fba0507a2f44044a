"""Label-smoothed cross-entropy and distillation as token sums, from hidden states and output heads.

All methods call `joint_loss`. It walks over the tokens in chunks and writes down the gradients of the logits directly, so
that only a few [chunk, vocabulary] tensors ever live at once. The detach rule and the senior rule of All-in-One KD need
every model's cross-entropy over the whole micro-batch before the divergences can be formed; then there are two walks. The
log-probabilities of the first are kept for the second if they fit into `loss_memory`; otherwise the second computes them
again, at one more output product for each model. All forms are exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_BYTES = {"cpu": 32 << 20}  # of one [chunk, vocabulary] tensor: products of smaller chunks are slower
CHUNK_BYTES_ELSEWHERE = 256 << 20
LOSS_MEMORY = 10**9


@dataclass(frozen=True)
class OutputHead:
    """The map from hidden states to logits: `scale · hidden · weightᵀ + bias`, over the entries that can be predicted.

    Args:
        weight: [rows, width], a row for every entry that can be predicted and perhaps more.
        bias: [entries] or None.
        scale: factor on the hidden states (T5 scales when its embeddings are tied).
        entries: how many of the rows, from the first, can be predicted (default: all); for Marian all but the row of
            `<pad>`, which must stay zero. The losses leave the others out themselves: to slice the matrix before would
            cost another matrix of gradients.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    entries: int | None = None

    @property
    def matrix(self) -> Tensor:
        """The rows that can be predicted [entries, width]."""
        return self.weight[: self.entries]

    def constant(self) -> "OutputHead":
        """The same head, taking no gradient."""
        return replace(self, weight=self.weight.detach(), bias=None if self.bias is None else self.bias.detach())


@dataclass(frozen=True)
class Divergence:
    """A term `weight · KL(teacher ‖ student)` between two of the models of a joint loss, named by position.

    Without `teacher_gradient` the teacher's distribution is a constant. With `cross_entropy` the term is
    −Σ_v p_t·log p_s instead, which exceeds KL by the teacher's entropy and has the same gradient for the student. With
    `symmetric` it is ½·KL(teacher ‖ student) + ½·KL(student ‖ teacher); `between` the two it is ½·KL(m ‖ teacher) +
    ½·KL(m ‖ student), where m is the softmax of their mean logits: −log Σ_v √(p_t·p_s). The weight is a number, or one for each
    token [tokens].
    """

    teacher: int
    student: int
    weight: float | Tensor
    teacher_gradient: bool = True
    cross_entropy: bool = False
    symmetric: bool = False
    between: bool = False

    @property
    def directions(self) -> list[tuple[int, int]]:
        """Who guides whom, once or both ways."""
        there, back = (self.teacher, self.student), (self.student, self.teacher)
        return [there, back] if self.symmetric else [there]


@dataclass(frozen=True)
class TopTargets:
    """A term `weight · T²·−Σ_{v in k} p_v·log softmax(z / T)_v`: what a teacher makes of each token, cut to its k best entries.

    Args:
        student: position of the model that is taught.
        ids: [tokens, k].
        probs: p [tokens, k], of sum 1.
        weight: factor.
        temperature: T.
    """

    student: int
    ids: Tensor
    probs: Tensor
    weight: float
    temperature: float


@dataclass(frozen=True)
class Measured:
    """What is known of the models when their divergences are chosen, without gradients.

    `cross_entropy` [models] is smoothed and summed over the tokens of the micro-batch, `nll` [models, tokens] is −log p of each
    target.
    """

    cross_entropy: list[float]
    nll: Tensor


Choice = Callable[[Measured], Sequence[Divergence]]


@dataclass(frozen=True)
class MixedTargets:
    """Second targets [tokens], and the factors [tokens] on the cross-entropy of the first and of the second ones."""

    targets: Tensor
    first: Tensor
    second: Tensor

    @property
    def whole(self) -> Tensor:
        """What a token counts [tokens]."""
        return self.first + self.second

    def likelihood(self, log_probs: Tensor, found: Tensor, span: slice) -> Tensor:
        """The weighted sum of log p [chunk, 1] of both targets, from that of the first ones."""
        other = log_probs.gather(-1, self.targets[span, None])
        return self.first[span, None] * found + self.second[span, None] * other


@dataclass
class JointLoss:
    """Sums over the target tokens of one micro-batch.

    `total` carries the gradient; the rest is detached: `cross_entropy` and `nll` [models] with and without label
    smoothing (0 for models that are only looked at, with weight 0 and no gradient), `divergences` [terms] unweighted, in the
    order of `terms`, `top` that of `TopTargets`.
    """

    total: Tensor
    cross_entropy: Tensor
    nll: Tensor
    terms: Sequence[Divergence]
    divergences: Tensor
    top: Tensor


def effective_smoothing(smoothing: float, vocabulary: int, variant: str) -> float:
    """ε of the form (1−ε)·NLL + ε·mean_v(−log p_v) that equals the wanted variant.

    `torch` spreads ε over all V entries; `fairseq` over the V−1 wrong ones with ε on top of the right one's loss:
    (1−ε−ε/(V−1))·NLL + ε/(V−1)·Σ_v(−log p_v), which is the torch form with ε·V/(V−1).
    """
    return smoothing if variant == "torch" else smoothing * vocabulary / (vocabulary - 1)


@torch.compiler.disable  # it writes its own gradients, chunk by chunk; compiled code around it calls it as it is
def joint_loss(
    states: Sequence[Tensor],
    heads: Sequence[OutputHead],
    targets: Tensor,
    smoothing: float,
    weights: Sequence[float],
    divergences: Sequence[Divergence] | Choice = (),
    smoothing_variant: str = "torch",
    loss_memory: int = LOSS_MEMORY,
    mixed: MixedTargets | None = None,
    top: TopTargets | None = None,
) -> JointLoss:
    """Σ_models weight · cross-entropy + Σ_terms weight · divergence, as sums over the target tokens.

    The cross-entropy is (1−ε)·NLL + ε·mean_v(−log p_v), the divergence KL(p_t ‖ p_s) = Σ_v p_t·(log p_t − log p_s), all in
    float32 from logits in autocast's precision. Gradients reach the states, the weights and the biases that require them.

    Args:
        states: for each model the hidden states [tokens, width] of the non-padding target positions.
        heads: for each model its output head.
        targets: [tokens].
        smoothing: label smoothing ε.
        weights: for each model the factor on its cross-entropy.
        divergences: the terms, or a function that chooses them by what the whole micro-batch costs the models.
        smoothing_variant: `torch` or `fairseq`, see `effective_smoothing`.
        loss_memory: bytes that the log-probabilities of all models may take.
        mixed: second targets, where the cross-entropy is that of two mixed sentences.
        top: what a teacher's best entries teach one of the models, beside the divergences.
    """
    entries = len(heads[0].matrix)
    epsilon = effective_smoothing(smoothing, entries, smoothing_variant)
    scaled = [state if head.scale == 1.0 else state * head.scale for state, head in zip(states, heads, strict=True)]
    distinct = list({id(head): head for head in heads}.values())
    owner = [next(i for i, head in enumerate(distinct) if head is mine) for mine in heads]
    plan = Plan(targets, epsilon, tuple(weights), divergences, tuple(owner), entries, loss_memory, mixed, top)
    tensors = [*scaled, *(head.weight for head in distinct), *(head.bias for head in distinct)]
    if not torch.is_grad_enabled():
        tensors = [None if tensor is None else tensor.detach() for tensor in tensors]
    total, entropies, nll, sums, taught = FusedJointLoss.apply(plan, *tensors)
    return JointLoss(total, entropies, nll, plan.terms, sums, taught)


@dataclass
class Plan:
    """What `FusedJointLoss` needs beside its differentiable inputs; `owner` gives each model the position of its head.

    `entries` are the rows of the output matrices that can be predicted. `terms` is filled in as soon as they are known, which
    may be after the first walk.
    """

    targets: Tensor
    epsilon: float
    weights: tuple[float, ...]
    divergences: Sequence[Divergence] | Choice
    owner: tuple[int, ...]
    entries: int
    loss_memory: int
    mixed: MixedTargets | None = None
    top: TopTargets | None = None
    terms: Sequence[Divergence] = ()


class FusedJointLoss(torch.autograd.Function):
    """Loss and gradients of `joint_loss` in one walk over the tokens.

    Gradients with respect to the logits z of a token: cross-entropy p − ((1−ε)·onehot + ε/V); divergence, student's side
    p_s − p_t; teacher's side p_t · (log p_t − log p_s − KL). A symmetric term is half of either direction. Of one between two
    it is ½·(p − m) on either side.
    """

    @staticmethod
    def forward(ctx: Any, plan: Plan, *tensors: Any) -> tuple[Tensor, ...]:
        """Inputs: states of every model, then weights and biases of every distinct head (see `joint_loss`)."""
        count, owner = len(plan.owner), plan.owner
        heads = (len(tensors) - count) // 2
        states, weights, biases = tensors[:count], tensors[count : count + heads], tensors[count + heads :]
        device, tokens, vocabulary = states[0].device, len(plan.targets), plan.entries
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else weights[0].dtype
        low = [state.detach().to(dtype) for state in states]
        matrices = [weight.detach()[:vocabulary].to(dtype) for weight in weights]
        offsets = [None if bias is None else bias.detach().to(dtype) for bias in biases]
        size = max(1, CHUNK_BYTES.get(device.type, CHUNK_BYTES_ELSEWHERE) // (4 * vocabulary))
        spans = [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]
        learning = [
            any(ctx.needs_input_grad[1 + place] for place in (model, count + owner[model], count + heads + owner[model]))
            for model in range(count)
        ]
        choose = plan.divergences if callable(plan.divergences) else None
        two_walks = choose is not None
        keep = two_walks and 4 * count * tokens * vocabulary <= plan.loss_memory
        kept = torch.empty(count, tokens, vocabulary, device=device) if keep else None
        sums = torch.zeros(count, 2, dtype=torch.float32, device=device)  # NLL, Σ_v −log p_v / V
        taught = torch.zeros((), device=device)  # by the best entries of a teacher
        of_tokens = torch.zeros(count if two_walks else 0, tokens, device=device)  # NLL
        gradients = [
            torch.zeros(tensor.shape, device=device) if needed else None
            for tensor, needed in zip(tensors, ctx.needs_input_grad[1:], strict=True)
        ]

        def log_probs(model: int, span: slice) -> Tensor:
            logits = F.linear(low[model][span], matrices[owner[model]], offsets[owner[model]])
            return F.log_softmax(logits, dim=-1, dtype=torch.float32)

        def measure(every: Sequence[Tensor], span: slice) -> None:
            for model, chunk in enumerate(every):
                found, uniform = chunk.gather(-1, plan.targets[span, None]), chunk.sum(-1)
                if plan.mixed:
                    found, uniform = plan.mixed.likelihood(chunk, found, span), uniform * plan.mixed.whole[span]
                if two_walks:
                    of_tokens[model, span] = -found[:, 0]
                if plan.weights[model] or learning[model]:
                    sums[model, 0] -= found.sum()
                    sums[model, 1] -= uniform.sum() / vocabulary

        def differentiate(every: Sequence[Tensor], span: slice) -> None:
            for model, slope in enumerate(logit_gradients(every, plan, span, learning, divergences, taught)):
                if slope is not None:
                    mine = owner[model]
                    collect(gradients, slope, model, count + mine, heads, low[model][span], matrices[mine], span)

        if not callable(plan.divergences):
            plan.terms = tuple(plan.divergences)
            divergences = torch.zeros(2, len(plan.terms), device=device)
        wanted = any(learning)
        for span in spans:
            every = [log_probs(model, span) for model in range(count)]
            measure(every, span)
            if kept is not None:
                for model, chunk in enumerate(every):
                    kept[model, span] = chunk
            if not two_walks and (wanted or plan.terms or plan.top):
                differentiate(every, span)
        nll = sums[:, 0].clone()
        entropies = (1 - plan.epsilon) * nll + plan.epsilon * sums[:, 1]
        if choose is not None:
            plan.terms = tuple(choose(Measured(entropies.tolist(), of_tokens)))
            divergences = torch.zeros(2, len(plan.terms), device=device)
            for span in spans if wanted or plan.terms else ():
                differentiate([log_probs(model, span) if kept is None else kept[model, span] for model in range(count)], span)
        ctx.save_for_backward(*(gradient for gradient in gradients if gradient is not None))
        ctx.present = [gradient is not None for gradient in gradients]
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in tensors]
        scale = entropies.new_tensor(plan.weights)
        unweighted, weighted = divergences
        total = (entropies * scale).sum() + weighted.sum()
        if plan.top:
            total = total + plan.top.weight * taught
        ctx.mark_non_differentiable(entropies, nll, unweighted, taught)
        return total, entropies, nll, unweighted, taught

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients found on the way, times that of the total; scaled in place, so that torch refuses a second time."""
        saved = iter(ctx.saved_tensors)
        return None, *(
            next(saved).mul_(total).to(dtype) if present else None
            for present, dtype in zip(ctx.present, ctx.dtypes, strict=True)
        )


def logit_gradients(
    log_probs: Sequence[Tensor],
    plan: Plan,
    span: slice,
    learning: Sequence[bool],
    divergences: Tensor,
    taught: Tensor,
) -> list[Tensor | None]:
    """Gradients [chunk, vocabulary] of the total with respect to the logits of the models that are `learning`.

    Adds to the sums `divergences` [2, terms] on the way, in the first row as they are and in the second times their weights,
    and to that of the best entries, `taught`.
    """
    probs = [each.exp() for each in log_probs]
    targets = plan.targets[span, None]
    compared = {place for term in plan.terms for place in (term.teacher, term.student)}
    slopes: list[Tensor | None] = []
    for model, (prob, weight, learns) in enumerate(zip(probs, plan.weights, learning, strict=True)):
        slope = (prob * weight if model in compared else prob.mul_(weight)) if learns else None
        if slope is not None and weight and plan.mixed:
            slope.sub_(plan.epsilon * weight / prob.shape[-1]).mul_(plan.mixed.whole[span, None])
            for places, factor in ((targets, plan.mixed.first), (plan.mixed.targets[span, None], plan.mixed.second)):
                slope.scatter_add_(-1, places, -weight * (1 - plan.epsilon) * factor[span, None].to(slope.dtype))
        elif slope is not None and weight:
            slope.sub_(weight * plan.epsilon / prob.shape[-1])
            slope.scatter_add_(-1, targets, slope.new_full(targets.shape, -weight * (1 - plan.epsilon)))
        slopes.append(slope)
    if plan.top:
        add_top(slopes[plan.top.student], log_probs[plan.top.student], plan.top, span, taught)
    for index, term in enumerate(plan.terms):
        if term.teacher == term.student:  # a model does not diverge from itself
            continue
        share = (term.weight[span, None] if isinstance(term.weight, Tensor) else term.weight) / len(term.directions)
        moved = {term.teacher: term.teacher_gradient, term.student: True}
        if term.between:
            middle = (log_probs[term.teacher] + log_probs[term.student]).mul_(0.5)
            size = middle.logsumexp(-1, keepdim=True)
            divergences[0, index] -= size.sum()
            divergences[1, index] -= (size * share).sum()
            middle = middle.sub_(size).exp_()
            for place in (place for place in moved if moved[place]):
                if (own := slopes[place]) is not None:
                    add_weighted(add_weighted(own, probs[place], share / 2), middle, -share / 2)
            continue
        for teacher, student in term.directions:
            p_t, p_s = probs[teacher], probs[student]
            ratio = -log_probs[student] if term.cross_entropy else log_probs[teacher] - log_probs[student]
            product = ratio.mul_(p_t)
            divergence = product.sum(-1, keepdim=True)
            divergences[0, index] += divergence.sum() / len(term.directions)
            divergences[1, index] += (divergence * share).sum()
            guide, pupil = (slopes[place] if moved[place] else None for place in (teacher, student))
            if pupil is not None:
                add_weighted(add_weighted(pupil, p_s, share), p_t, -share)
            if guide is not None:
                add_weighted(guide, product.sub_(p_t * divergence), share)
    return slopes


def add_top(slope: Tensor | None, log_probs: Tensor, top: TopTargets, span: slice, taught: Tensor) -> None:
    """Adds T²·CE to the sum and weight·T·(softmax(z / T) − p) to the gradient, if there is one."""
    ids, probs = top.ids[span], top.probs[span]
    softened = F.log_softmax(log_probs / top.temperature, dim=-1)
    taught -= top.temperature**2 * (probs * softened.gather(-1, ids)).sum()
    if slope is not None:
        slope.add_(softened.exp_(), alpha=top.weight * top.temperature)
        slope.scatter_add_(-1, ids, -top.weight * top.temperature * probs)


def add_weighted(total: Tensor, values: Tensor, weight: float | Tensor) -> Tensor:
    """Adds values [tokens, entries] times a number, or times one for each token [tokens, 1]; returns the total."""
    return total.addcmul_(values, weight) if isinstance(weight, Tensor) else total.add_(values, alpha=weight)


def collect(
    gradients: list[Tensor | None],
    slope: Tensor,
    model: int,
    head: int,
    heads: int,
    states: Tensor,
    matrix: Tensor,
    span: slice,
) -> None:
    """Carries one chunk's logit gradients on to states, weight and bias, where wanted.

    `gradients` holds those of the states of every model, then of all weights, then of all `heads` biases.
    """
    of_states, of_weight, of_bias = gradients[model], gradients[head], gradients[head + heads]
    if of_bias is not None:
        of_bias += slope.sum(0)
    slope = slope.to(matrix.dtype)
    if of_states is not None:
        of_states[span] = slope @ matrix
    if of_weight is not None:
        add_product(of_weight[: len(matrix)], slope.T, states)


def add_product(total: Tensor, first: Tensor, second: Tensor) -> None:
    """Adds first @ second to the total, without a copy where the precision is the same."""
    if total.dtype == first.dtype:
        total.addmm_(first, second)
    else:
        total += first @ second
