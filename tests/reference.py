"""Slow, obvious versions of what the library computes cleverly."""

import math

import torch
import torch.nn.functional as F

from hf_paretokd import Depth, sliced


def smoothed_cross_entropy(logits, targets, epsilon):
    """Σ_tokens (1−ε)(−log p_y) + ε·mean_v(−log p_v), token by token."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        log_p = torch.log_softmax(row, -1)
        total = total + (1 - epsilon) * -log_p[target] + epsilon * -log_p.mean()
    return total


def kl(teacher_logits, student_logits):
    """Σ_tokens Σ_v p_t (log p_t − log p_s)."""
    log_t, log_s = torch.log_softmax(teacher_logits, -1), torch.log_softmax(student_logits, -1)
    return (log_t.exp() * (log_t - log_s)).sum()


def slice_logits(model, depth, batch):
    """Logits of the non-padding target positions without `<pad>`, from the model's own forward."""
    with sliced(model, Depth.parse(depth)):
        logits = model(**batch).logits
    return logits[batch["labels"] != -100][:, :-1]


def all_in_one_loss(model, batch, students, alpha, beta, eta, epsilon, detach_tie=False, detach_senior=False):
    """AIO Eq. 1–8 written down as they stand, with one whole pass for each model."""
    targets = batch["labels"][batch["labels"] != -100]
    full = Depth(len(model.get_encoder().layers), len(model.get_decoder().layers))
    logits = [slice_logits(model, depth, batch) for depth in (full, *students)]
    ce = [smoothed_cross_entropy(each, targets, epsilon) for each in logits]
    loss = sum(ce)
    for k in range(1, len(logits)):
        ratio = (ce[k] / ce[0]).item()
        detached = ratio > eta or (detach_tie and math.isclose(ratio, eta))
        loss = loss + alpha / len(students) * kl(logits[0].detach() if detached else logits[0], logits[k])
    count = len(students)
    for k in range(1, len(logits)):
        for other in range(k + 1, len(logits)):
            senior, junior = (k, other) if ce[other] >= ce[k] else (other, k)
            guide = logits[senior].detach() if detach_senior else logits[senior]
            loss = loss + beta * 2 / (count * (count - 1)) * kl(guide, logits[junior])
    return loss, ce


def gradients(loss, model):
    """Gradients of all parameters as one dictionary; parameters without one count as zero."""
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found, strict=True)}


def torch_label_smoothing(logits, targets, epsilon):
    """The library form of torch, summed."""
    return F.cross_entropy(logits, targets, label_smoothing=epsilon, reduction="sum")


def pareto_loss(student_logits, teacher_logits, targets, alpha, epsilon):
    """(1−α)·L_ce + α·mean over teachers of −Σ_tokens Σ_v p_t log p_s (PMD Eq. 3–4), token by token."""
    loss = (1 - alpha) * smoothed_cross_entropy(student_logits, targets, epsilon)
    for logits in teacher_logits:
        for p_t, row in zip(torch.softmax(logits.detach(), -1), student_logits, strict=True):
            loss = loss - alpha / len(teacher_logits) * (p_t * torch.log_softmax(row, -1)).sum()
    return loss
