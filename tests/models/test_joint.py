"""Fifty updates with the library's loss and with the same loss written down with torch's own functions."""

import pytest
import torch
import torch.nn.functional as F

from hf_paretokd import AllInOneConfig, AllInOneTrainer, losses
from hf_paretokd.losses import JointLoss, Measured
from hf_paretokd.models import joint


def plain_form(states, heads, targets, smoothing, weights, divergences=(), variant="torch", *others):
    """Whole logits, gradients by autograd."""
    logits = [F.linear(state, head.matrix, head.bias) for state, head in zip(states, heads, strict=True)]
    entropies = [F.cross_entropy(each, targets, label_smoothing=smoothing, reduction="sum") for each in logits]
    nll = [F.cross_entropy(each, targets, reduction="sum").detach() for each in logits]
    measured = Measured([each.item() for each in entropies], torch.zeros(len(logits), len(targets)))
    terms = divergences(measured) if callable(divergences) else divergences
    log_probs = [F.log_softmax(each, dim=-1) for each in logits]
    total = sum(weight * each for weight, each in zip(weights, entropies, strict=True))
    found = []
    for term in terms:
        guide = log_probs[term.teacher] if term.teacher_gradient else log_probs[term.teacher].detach()
        found.append(F.kl_div(log_probs[term.student], guide, log_target=True, reduction="sum"))
        total = total + term.weight * found[-1] if term.teacher != term.student else total
    sums = torch.stack(found).detach() if found else torch.zeros(0)
    return JointLoss(total, torch.stack(entropies).detach(), torch.stack(nll), terms, sums, torch.zeros(()))


@pytest.mark.parametrize("memory", [1.0, 0.0], ids=["kept", "computed again"])
def test_fifty_updates_are_those_of_the_plain_form(new_model, encoded, tmp_path, monkeypatch, memory):
    def train(form=None):
        with monkeypatch.context() as patch:
            noted = []
            if form:
                patch.setattr(joint, "joint_loss", form)
            patch.setitem(losses.CHUNK_BYTES, "cpu", 7 * 4 * 900)  # about seven tokens
            config = AllInOneConfig(
                output_dir=str(tmp_path),
                max_steps=50,
                max_tokens=300,
                warmup_steps=2,
                learning_rate=5e-4,
                detach_threshold=1.01,
                loss_memory=memory,
                kd_weight=5.5,
                eval_strategy="no",
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
            )
            trainer = AllInOneTrainer(new_model(dropout=0.1), config, train_dataset=encoded["train"])
            decide = trainer.model.rules.divergences

            def deciding(*args):
                terms = decide(*args)
                noted.append([(term.teacher, term.student, term.teacher_gradient) for term in terms])
                return terms

            object.__setattr__(trainer.model.rules, "divergences", deciding)
            trainer.train()
            return [line for line in trainer.state.log_history if "loss" in line], noted

    (ours, decisions), (theirs, others) = train(), train(plain_form)
    assert len(ours) == 50
    for name in ("loss", "loss_teacher", "loss_students"):
        residuals = [abs(mine[name] - other[name]) for mine, other in zip(ours, theirs, strict=True)]
        assert max(residuals) <= 1e-5
        if name != "loss":  # the total is about 20, where neighbouring float32 numbers are 2e-6 apart
            assert sum(residuals) / 50 <= 1e-6
    assert decisions == others
    detached = [not gradient for terms in decisions for teacher, _, gradient in terms if teacher == 0]
    assert 0 < sum(detached) < len(detached)
