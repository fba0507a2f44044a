import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from reference import kl, smoothed_cross_entropy, torch_label_smoothing

from hf_paretokd import losses
from hf_paretokd.losses import Divergence, MixedTargets, OutputHead, TopTargets, joint_loss


def from_probs(*rows):
    """States and a head whose logits are exactly the logs of the given distributions."""
    states = torch.tensor(rows).log().requires_grad_()
    return states, OutputHead(torch.eye(states.shape[1]))


def random_models(count, tokens=37, vocabulary=50, width=8, seed=0):
    torch.manual_seed(seed)
    weight, bias = torch.randn(vocabulary + 1, width, requires_grad=True), torch.randn(vocabulary, requires_grad=True)
    states = [torch.randn(tokens, width, requires_grad=True) for _ in range(count)]
    return states, OutputHead(weight, bias, entries=vocabulary), weight, bias, torch.randint(0, vocabulary, (tokens,))


def reference(states, head, targets, epsilon, weights, terms):
    logits = [F.linear(state, head.matrix, head.bias) for state in states]
    total = sum(w * smoothed_cross_entropy(each, targets, epsilon) for w, each in zip(weights, logits, strict=True))
    for term in terms:
        teacher = logits[term.teacher] if term.teacher_gradient else logits[term.teacher].detach()
        total = total + term.weight * kl(teacher, logits[term.student])
    return total


TERMS = (Divergence(0, 1, 2.75, True), Divergence(0, 2, 2.75, False), Divergence(2, 1, 0.5, True))


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["kept", "computed again"])
@pytest.mark.parametrize("chunk", [1, 10, 1000])
def test_equals_the_slow_form_with_gradients(memory, chunk, monkeypatch):
    states, head, weight, bias, targets = random_models(3)
    monkeypatch.setitem(losses.CHUNK_BYTES, "cpu", chunk * 4 * 50)
    weights = [1.0, 2.0, 0.0]
    found = joint_loss(states, [head] * 3, targets, 0.1, weights, lambda _: TERMS, loss_memory=memory)
    expected = reference(states, head, targets, 0.1, weights, TERMS)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-6)
    inputs = [weight, bias, *states]
    ours, theirs = torch.autograd.grad(0.3 * found.total, inputs), torch.autograd.grad(0.3 * expected, inputs)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-6, atol=2e-5 * their.abs().max().item() / 10 + 1e-6)
    assert (ours[0][-1] == 0).all(), "the row of <pad> gets no gradient at all"


def test_the_best_entries_of_a_teacher_by_the_published_vector():
    """Multi-Distill, ICLR 2019: logits (3, 2, 0, −1) cut to two, student (1, 1, 0, 0), T = 0.6; gradients by autograd."""
    teacher, student = torch.tensor([[3.0, 2.0, 0.0, -1.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]], requires_grad=True)
    values, ids = teacher.topk(2)
    probs = (values / 0.6).softmax(-1)
    assert probs.tolist()[0] == pytest.approx([0.841131, 0.158869], abs=1e-6)
    top = TopTargets(0, ids, probs, 0.7, 0.6)
    found = joint_loss([student], [OutputHead(torch.eye(4))], torch.tensor([0]), 0.0, [0.0], top=top)
    assert found.top.item() == pytest.approx(0.311816, abs=1e-5)
    assert found.total.item() == pytest.approx(0.7 * found.top.item())
    expected = -0.7 * 0.36 * (probs * (student / 0.6).log_softmax(-1).gather(-1, ids)).sum()
    (ours,), (theirs,) = torch.autograd.grad(found.total, student), torch.autograd.grad(expected, student)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("chosen", [True, False], ids=["terms chosen by entropies", "terms known"])
def test_mixed_targets_with_gradients(chosen, monkeypatch):
    """Σ_t λ_t·LSCE(y_t) + μ_t·LSCE(y′_t) beside a divergence, by autograd."""
    monkeypatch.setitem(losses.CHUNK_BYTES, "cpu", 4 * 50 * 7)
    states, head, weight, bias, targets = random_models(2)
    draw = torch.Generator().manual_seed(4)
    others = torch.randint(50, targets.shape, generator=draw)
    first, second = torch.rand(2, len(targets), generator=draw)
    mixed = MixedTargets(others, first, second)
    terms = [Divergence(0, 1, 0.7)]
    found = joint_loss(states, [head, head], targets, 0.1, [1.0, 2.0], (lambda _: terms) if chosen else terms, mixed=mixed)
    expected, entropies = 0.0, []
    for state, factor in zip(states, [1.0, 2.0], strict=True):
        logits = F.linear(state, head.matrix, head.bias)
        of = [F.cross_entropy(logits, each, label_smoothing=0.1, reduction="none") for each in (targets, others)]
        entropies.append((first * of[0] + second * of[1]).sum())
        expected = expected + factor * entropies[-1]
    one, two = (F.log_softmax(F.linear(state, head.matrix, head.bias), -1) for state in states)
    expected = expected + 0.7 * (one.exp() * (one - two)).sum()
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.cross_entropy.tolist() == pytest.approx([each.item() for each in entropies], rel=1e-5)
    leaves = [*states, weight, bias]
    for ours, theirs in zip(torch.autograd.grad(found.total, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["kept", "computed again"])
@pytest.mark.parametrize("teacher_gradient", [True, False])
def test_terms_both_ways_and_weights_of_tokens(memory, teacher_gradient, monkeypatch):
    """½·KL(p₁ ‖ p₂) + ½·KL(p₂ ‖ p₁), times a number or times one for each token."""
    states, head, weight, bias, targets = random_models(3)
    monkeypatch.setitem(losses.CHUNK_BYTES, "cpu", 10 * 4 * 50)
    by_token = torch.rand(len(targets))
    terms = (
        Divergence(0, 1, 2.5, teacher_gradient, symmetric=True),
        Divergence(1, 2, by_token, teacher_gradient),
        Divergence(2, 0, by_token, teacher_gradient, symmetric=True),
        Divergence(2, 1, by_token, False, cross_entropy=True),
        Divergence(1, 0, 1.5, teacher_gradient, between=True),
        Divergence(1, 2, by_token, teacher_gradient, between=True),
    )
    logits = [F.linear(state, head.matrix, head.bias) for state in states]
    fixed = [each if teacher_gradient else each.detach() for each in logits]
    logs = [each.log_softmax(-1) for each in logits]

    def rows(guide, pupil):
        return (guide.softmax(-1) * (guide.log_softmax(-1) - pupil.log_softmax(-1))).sum(-1)

    def around(first, second):
        middle = (first + second) / 2
        return (rows(middle, first) + rows(middle, second)) / 2

    expected = [
        (rows(fixed[0], logits[1]) + rows(logits[1], fixed[0])) / 2,
        rows(fixed[1], logits[2]),
        (rows(fixed[2], logits[0]) + rows(logits[0], fixed[2])) / 2,
        -(logits[2].detach().softmax(-1) * logs[1]).sum(-1),
        around(fixed[1], logits[0]),
        around(fixed[1], logits[2]),
    ]
    total = smoothed_cross_entropy(logits[0], targets, 0.1)
    total = total + sum((term.weight * each).sum() for term, each in zip(terms, expected, strict=True))
    found = joint_loss(states, [head] * 3, targets, 0.1, [1.0, 0.0, 0.0], lambda _: terms, loss_memory=memory)
    assert found.total.item() == pytest.approx(total.item(), rel=1e-6)
    torch.testing.assert_close(found.divergences, torch.stack([each.sum() for each in expected]).detach())
    inputs = [weight, bias, *states]
    ours, theirs = torch.autograd.grad(found.total, inputs), torch.autograd.grad(total, inputs)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-5)


def test_the_divergence_of_cutoff_by_hand():
    """D-23: m = (.506480, .307196, .186324), D = .0728395, which is not the Jensen-Shannon divergence (.0686...)."""
    states = [torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0]])]
    head = OutputHead(torch.eye(3))
    terms = [Divergence(0, 1, 1.0, between=True)]
    found = joint_loss(states, [head] * 2, torch.tensor([0]), 0.0, [0.0, 0.0], terms)
    assert found.divergences.item() == pytest.approx(0.0728395, abs=1e-6)


def test_two_heads_and_a_frozen_model():
    states, head, weight, _, targets = random_models(2)
    other = OutputHead(torch.randn(50, 8))
    frozen = states[1].detach()
    terms = (Divergence(1, 0, 0.4, False),)
    found = joint_loss([states[0], frozen], [head, other], targets, 0.0, [0.6, 0.0], lambda _: terms)
    logits = F.linear(states[0], head.matrix, head.bias)
    expected = 0.6 * F.cross_entropy(logits, targets, reduction="sum") + 0.4 * kl(F.linear(frozen, other.weight), logits)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(found.total, [weight, states[0]]), torch.autograd.grad(expected, [weight, states[0]]), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_nothing_is_stored_without_gradients():
    states, head, _, _, targets = random_models(2)
    with torch.no_grad():
        found = joint_loss(states, [head] * 2, targets, 0.1, [1.0, 1.0], lambda _: (Divergence(0, 1, 1.0),))
    assert not found.total.requires_grad
    logits = [F.linear(state, head.matrix, head.bias) for state in states]
    assert found.divergences.item() == pytest.approx(kl(*logits).item(), rel=1e-5)


def test_bf16_autocast_reaches_the_output_product():
    states, head, _, _, targets = random_models(1)
    plain = joint_loss(states, [head], targets, 0.1, [1.0])
    with torch.autocast("cpu", torch.bfloat16):
        low = joint_loss(states, [head], targets, 0.1, [1.0])
    assert low.total.dtype == torch.float32
    assert low.total.item() != plain.total.item()
    assert low.total.item() == pytest.approx(plain.total.item(), rel=1e-2)


# ---- vectors: KL, cross-entropy, teacher gradient (D-9) --------------------------------------------------------------

TEACHER, STUDENT = (0.6, 0.3, 0.1), (0.5, 0.25, 0.25)


def divergence_only(teacher_gradient, cross_entropy=False):
    (teacher, head), (student, _) = from_probs(TEACHER), from_probs(STUDENT)
    loss = joint_loss(
        [teacher, student],
        [head, head],
        torch.tensor([0]),
        0.0,
        [0.0, 0.0],
        (Divergence(0, 1, 1.0, teacher_gradient, cross_entropy),),
    )
    return loss, *torch.autograd.grad(loss.total, [teacher, student])


def test_kl_value_and_student_gradient():
    loss, _, student = divergence_only(True)
    assert loss.total.item() == pytest.approx(0.0724603, abs=1e-6)
    torch.testing.assert_close(student[0], torch.tensor([-0.1, -0.05, 0.15]), atol=1e-6, rtol=0)


def test_kl_direction_matters():
    (teacher, head), (student, _) = from_probs(TEACHER), from_probs(STUDENT)
    loss = joint_loss([teacher, student], [head, head], torch.tensor([0]), 0.0, [0.0, 0.0], lambda _: (Divergence(1, 0, 1.0),))
    assert loss.total.item() == pytest.approx(0.0923315, abs=1e-6)


def test_kl_teacher_gradient_and_detaching():
    expected = torch.tensor([0.0659168, 0.0329584, -0.0988751])
    torch.testing.assert_close(divergence_only(True)[1][0], expected, atol=1e-6, rtol=0)
    assert (divergence_only(False)[1] == 0).all()


def test_the_cross_entropy_form():
    """D-9: KL plus the teacher's entropy, the same gradient for the student, another one for the teacher."""
    loss, teacher, student = divergence_only(True, cross_entropy=True)
    assert loss.total.item() == pytest.approx(0.9704061, abs=1e-6)
    assert loss.total.item() - divergence_only(True)[0].total.item() == pytest.approx(0.8979457, abs=1e-6)
    torch.testing.assert_close(student[0], torch.tensor([-0.1, -0.05, 0.15]), atol=1e-6, rtol=0)
    torch.testing.assert_close(teacher[0], torch.tensor([-0.1663553, 0.1247665, 0.0415888]), atol=1e-6, rtol=0)
    assert (divergence_only(False, cross_entropy=True)[1] == 0).all()


@pytest.mark.parametrize("two_walks", [False, True])
def test_terms_known_beforehand_and_chosen_later_agree(two_walks):
    torch.manual_seed(2)
    states = [torch.randn(7, 4, requires_grad=True) for _ in range(2)]
    head = OutputHead(torch.randn(9, 4, requires_grad=True))
    terms = (Divergence(0, 1, 0.3), Divergence(1, 0, 0.2, False, True))
    targets = torch.randint(0, 9, (7,))
    loss = joint_loss(states, [head, head], targets, 0.1, [0.5, 1.0], (lambda _: terms) if two_walks else terms)
    logits = [state @ head.weight.T for state in states]
    log_p = [torch.log_softmax(each, -1) for each in logits]
    expected = 0.5 * smoothed_cross_entropy(logits[0], targets, 0.1) + smoothed_cross_entropy(logits[1], targets, 0.1)
    expected = expected + 0.3 * (log_p[0].exp() * (log_p[0] - log_p[1])).sum()
    expected = expected - 0.2 * (log_p[1].detach().exp() * log_p[0]).sum()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    inputs = [*states, head.weight]
    for mine, reference in zip(torch.autograd.grad(loss.total, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)


# ---- vectors: label smoothing (D-11) ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "variant", "expected"),
    [
        (0.0, "torch", 0.3566749),
        (0.1, "torch", 0.5026182),
        (0.1, "fairseq", 0.5512660),
        (0.1 * 4 / 3, "torch", 0.5512660),
    ],
)
def test_label_smoothing_forms(epsilon, variant, expected):
    states, head = from_probs((0.7, 0.1, 0.1, 0.1))
    loss = joint_loss([states], [head], torch.tensor([0]), epsilon, [1.0], smoothing_variant=variant)
    assert loss.cross_entropy.item() == pytest.approx(expected, abs=1e-6)
    assert loss.nll.item() == pytest.approx(0.3566749, abs=1e-6)


def test_label_smoothing_is_torchs():
    states, head, _, _, targets = random_models(1)
    logits = F.linear(states[0], head.matrix, head.bias)
    ours = joint_loss(states, [head], targets, 0.1, [1.0]).total.item()
    assert ours == pytest.approx(torch_label_smoothing(logits, targets, 0.1).item(), rel=1e-6)


def test_scale_of_tied_t5():
    states, head, _, _, targets = random_models(1)
    scaled = replace(head, scale=0.5)
    halved = joint_loss([states[0] * 0.5], [head], targets, 0.0, [1.0]).total
    assert joint_loss(states, [scaled], targets, 0.0, [1.0]).total.item() == pytest.approx(halved.item(), rel=1e-6)
    assert not math.isnan(halved.item())


@pytest.mark.parametrize("chosen", [True, False], ids=["terms chosen by entropies", "terms known"])
def test_compiled_code_may_call_it(chosen):
    """Inside a function under torch.compile, whatever it makes of it, values and gradients are the same."""
    states, head, weight, bias, targets = random_models(3)

    def loss(*mine):
        terms = (lambda _: TERMS) if chosen else TERMS
        return joint_loss(mine, [head] * 3, targets, 0.1, [1.0, 2.0, 0.0], terms).total

    inputs = [weight, bias, *states]
    plain, compiled = loss(*states), torch.compile(loss, backend="eager")(*states)
    assert torch.equal(plain, compiled)
    for ours, theirs in zip(torch.autograd.grad(compiled, inputs), torch.autograd.grad(plain, inputs), strict=True):
        assert torch.equal(ours, theirs)


def test_every_model_that_counts_or_learns_is_measured():
    states, head, _, _, targets = random_models(2)
    expected = [smoothed_cross_entropy(F.linear(state, head.matrix, head.bias), targets, 0.1).item() for state in states]
    learning = joint_loss(states, [head] * 2, targets, 0.1, [1.0, 0.0])
    with torch.no_grad():
        looking = joint_loss(states, [head] * 2, targets, 0.1, [1.0, 1.0])
    for found in (learning, looking):
        assert found.cross_entropy.tolist() == pytest.approx(expected, rel=1e-5)


def test_terms_are_chosen_by_smoothed_entropies_and_there_may_be_none():
    states, head, weight, bias, targets = random_models(2)
    seen = []
    found = joint_loss(states, [head] * 2, targets, 0.1, [1.0, 2.0], lambda measured: seen.append(measured) or ())
    logits = [F.linear(state, head.matrix, head.bias) for state in states]
    (measured,) = seen
    assert measured.cross_entropy == pytest.approx(
        [smoothed_cross_entropy(each, targets, 0.1).item() for each in logits], rel=1e-5
    )
    by_token = torch.stack([F.cross_entropy(each, targets, reduction="none") for each in logits])
    torch.testing.assert_close(measured.nll, by_token)
    expected = reference(states, head, targets, 0.1, [1.0, 2.0], ())
    for ours, theirs in zip(
        torch.autograd.grad(found.total, [weight, bias, *states]),
        torch.autograd.grad(expected, [weight, bias, *states]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
