"""Samplers that learn: the published vectors, the measures by their definitions, decisions, resume."""

import math

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForSeq2SeqLM, TrainerCallback

from hf_paretokd.data.changing import FunctionSampling, phases_of, scheduled
from hf_paretokd.data.sampling import SamplerState, mean_probabilities, temperature_probabilities
from hf_paretokd.errors import DataError, ModelError, TrainingError
from hf_paretokd.training.shares import SCORER_RATE, chi_square_shares, scored, uncertainty

FIELDS = {
    "multi_uat": {"sampler_passes": 2},
    "multi_dds": {},
    "chi_ibr": {},
}


# ---- Equations -------------------------------------------------------------------------------------------------------


def test_shares_in_the_ball_are_those_of_the_published_vector():
    q = chi_square_shares([5.0, 3.0, 2.0], [0.1, 0.2, 0.6], 0.05)
    assert q == pytest.approx([0.391817, 0.285021, 0.323162], abs=1e-5)
    p = [0.5, 0.3, 0.2]
    assert sum(mine * (each / mine - 1) ** 2 for mine, each in zip(p, q, strict=True)) / 2 == pytest.approx(0.05, abs=1e-5)


def test_no_other_shares_in_the_ball_are_worse_off():
    """The maximum of Σ q·s, against a fine grid of all shares of three pairs, clamps aside."""
    p, s, radius = [0.45, 0.4, 0.15], [0.5, 0.1, 0.3], 0.02
    found = sum(q * each for q, each in zip(chi_square_shares(p, s, radius), s, strict=True))
    best, steps = 0.0, 400
    for first in range(steps + 1):
        for second in range(steps + 1 - first):
            q = [first / steps, second / steps, 1 - (first + second) / steps]
            if sum(mine * (each / mine - 1) ** 2 for mine, each in zip(p, q, strict=True)) / 2 <= radius:
                best = max(best, sum(mine * each for mine, each in zip(q, s, strict=True)))
    assert best <= found + 1e-9
    assert found <= best + 2e-3


def test_shares_end_at_those_of_the_text_and_at_the_clamp():
    p = [0.7, 0.2, 0.1]
    assert chi_square_shares(p, [1.0, 1.0, 1.0], 0.05) == pytest.approx(p)
    assert chi_square_shares(p, [0.3, 0.2, 0.9], 0.0) == pytest.approx(p, abs=1e-3)
    far = chi_square_shares(p, [0.0, 0.0, 1.0], 100.0)
    assert far[0] == pytest.approx(0.14 / 1.18 / (0.14 / 1.18 + 0.1 + 1 / 1.18)), "a fifth of its share, then the smallest one"
    assert far[2] == max(far)


def test_scores_follow_rewards_as_adam_has_it():
    p, rewards = [0.2, 0.3, 0.5], [1.0, 0.0, -1.0]
    psi = torch.tensor(p, dtype=torch.float64).log().requires_grad_()
    (-(torch.tensor(rewards, dtype=torch.float64) * F.log_softmax(psi, 0)).sum()).backward()
    assert psi.grad.tolist() == pytest.approx([-1.0, 0.0, 1.0]), "the published gradient"
    moved = [new - math.log(old) for new, old in zip(scored([math.log(each) for each in p], rewards), p, strict=True)]
    assert moved[0] == pytest.approx(200 * SCORER_RATE, rel=1e-3)
    assert moved[2] == pytest.approx(-200 * SCORER_RATE, rel=1e-3)


def likeliest(*probabilities):
    """Log-probabilities of four entries, of which the first has these."""
    return torch.tensor([[each, *[(1 - each) / 3] * 3] for each in probabilities], dtype=torch.float64).log()


def test_measures_of_uncertainty_are_those_of_the_published_vector():
    log_probs = likeliest(0.9, 0.5)
    found = {name: uncertainty(name, log_probs, [2]) for name in ("pre_tp", "exp_tp", "var_tp", "com_tp")}
    assert found["pre_tp"] == pytest.approx(0.55)
    assert found["exp_tp"] == pytest.approx(0.3291796)
    assert found["var_tp"] == pytest.approx(0.1727466)
    assert found["com_tp"] == pytest.approx(math.exp(0.1727466 / ((math.log(0.9) + math.log(0.5)) / 2)), rel=1e-6)
    entropies = [-(row.exp() * row).sum().item() for row in log_probs]
    assert uncertainty("ent_tp", log_probs, [2]) == pytest.approx(sum(entropies) / 2)
    assert uncertainty("ent_eos", log_probs, [2]) == pytest.approx(entropies[1])


def test_measures_are_means_over_sentences_and_entropies_over_tokens():
    log_probs = likeliest(0.9, 0.5, 0.8)  # of a sentence of two tokens, and one of one
    assert uncertainty("pre_tp", log_probs, [2, 1]) == pytest.approx((0.55 + 0.2) / 2)
    assert uncertainty("var_tp", log_probs, [2, 1]) == pytest.approx(0.1727466 / 2), "one token varies by nothing"
    entropies = [-(row.exp() * row).sum().item() for row in log_probs]
    assert uncertainty("ent_tp", log_probs, [2, 1]) == pytest.approx(sum(entropies) / 3)
    assert uncertainty("ent_eos", log_probs, [2, 1]) == pytest.approx((entropies[1] + entropies[2]) / 2)


# ---- Decisions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def baseline(new_trainer):
    """A finished plain model's folder."""
    trainer = new_trainer(folder="baseline", max_steps=2, eval_steps=2)
    trainer.train()
    return str(trainer.checkpoint(2) / "model")


@pytest.fixture
def sampled(new_trainer, new_model, baseline):
    def build(kind, method="plain", dropout=0.0, **fields):
        more = {"sampler_baseline": baseline} if kind == "chi_ibr" else {}
        peers = len(fields.get("temperatures", [1]))
        kinds = [kind] if peers == 1 else ["none", kind]
        more["model"] = new_model(dropout=dropout) if peers == 1 else None
        return new_trainer(method, samplers=kinds, **{"sampler_interval": 2, **FIELDS[kind], **more, **fields})

    return build


def decisions(trainer, peer=0):
    return [shares for _, shares in trainer.text.streams[peer].distribution.changes[1:]]


@pytest.mark.parametrize("kind", FIELDS)
def test_a_sampler_decides_and_a_resumed_training_goes_on_as_it_was(sampled, kind):
    whole = sampled(kind, max_steps=6, eval_steps=3, dropout=0.1, gradient_accumulation_steps=2)
    whole.train()
    found = decisions(whole)
    assert len(found) == 2, "after updates 2 and 4; after 6 there is nothing left to draw"
    start = temperature_probabilities({name: len(each) for name, each in whole.train_pairs.items()}, 1.0)
    for each in found:
        assert sum(each.values()) == pytest.approx(1, abs=1e-5)
        assert each != pytest.approx(start, abs=1e-6)
    drawn = whole.text.streams[0].distribution
    assert [number for number, _ in drawn.changes] == [0, 4, 8]
    again = sampled(kind, max_steps=6, eval_steps=3, dropout=0.1, gradient_accumulation_steps=2)
    again.train(resume_from_checkpoint=str(whole.checkpoint(3)))
    assert decisions(again)[-1] == found[-1]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


def test_rewards_are_mean_cosines_of_gradients(sampled):
    """Against gradients by hand, without dropout."""
    trainer = sampled("multi_dds", dropout=0.0)
    rule = trainer.samplers.rules[0]
    rewards = rule.rewards(2)
    model, parameters = rule.model, [each for each in rule.model.parameters() if each.requires_grad]

    def gradient(data, batches, name, what):
        batch = rule.batch(data, batches, name, what, 2)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).logits
        pad = model.config.pad_token_id
        loss = F.cross_entropy(logits[..., :pad].flatten(0, 1), batch["labels"].flatten(), label_smoothing=0.1)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.cat(
            [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, found, strict=True)]
        )

    from hf_paretokd.data.sampling import PairDataset

    validation = PairDataset(trainer.eval_pairs, trainer.model.config.pad_token_id)
    dev = {name: gradient(validation, trainer.eval_batches[name], name, "dev") for name in rule.pairs}
    for name, reward in zip(rule.pairs, rewards, strict=True):
        mine = gradient(rule.data, trainer.text.streams[0].pairs[name], name, "train")
        cosines = [F.cosine_similarity(mine, each, dim=0) for each in dev.values()]
        assert reward == pytest.approx(sum(cosines).item() / len(cosines), abs=1e-4)
        assert len({round(each.item(), 4) for each in cosines}) > 1


def test_uncertainty_is_that_of_the_models_own_distribution_and_needs_dropout(sampled):
    trainer = sampled("multi_uat", dropout=0.3, sampler_measure="ent_tp", sampler_passes=1)
    rule = trainer.samplers.rules[0]
    assert rule.rewards(2) == rule.rewards(2) != rule.rewards(4), "by seeds of the update"
    trainer.args.sampler_passes = 3
    assert rule.rewards(2) != sampled("multi_uat", dropout=0.3, sampler_measure="ent_tp", sampler_passes=1).samplers.rules[
        0
    ].rewards(2)
    still = sampled("multi_uat", dropout=0.0, sampler_measure="ent_tp", sampler_passes=1).samplers.rules[0]
    for name, found in zip(still.pairs, still.rewards(2), strict=True):
        from hf_paretokd.data.sampling import PairDataset

        data = PairDataset(still.trainer.eval_pairs, still.model.config.pad_token_id)
        batch = still.batch(data, still.trainer.eval_batches[name], name, "uncertainty", 2)
        fed = {key: batch[key] for key in ("input_ids", "attention_mask", "labels")}
        logits = still.model(**fed).logits[..., : still.model.config.pad_token_id]
        log_probs = F.log_softmax(logits[batch["labels"] != -100], dim=-1)
        assert found == pytest.approx(-(log_probs.exp() * log_probs).sum(-1).mean().item(), abs=1e-5)


class Losses(TrainerCallback):
    """Notes what a sampler knows after every update."""

    def __init__(self):
        self.trainer, self.seen = None, []

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(self.trainer.samplers.rules[0].averages.tolist())


def test_moving_averages_are_of_the_losses_of_the_updates(sampled):
    trainer = sampled("chi_ibr", max_steps=4, eval_steps=4, sampler_interval=100, dropout=0.0, gradient_accumulation_steps=2)
    noted, note = [], trainer.samplers.note
    trainer.samplers.note = lambda batches, losses: (
        noted.append((batches[0]["pair"], losses.item(), batches[0])),
        note(batches, losses),
    )
    losses = Losses()
    losses.trainer = trainer
    trainer.add_callback(losses)
    trainer.train()
    averages = dict.fromkeys(trainer.train_pairs, math.nan)
    for update in range(4):
        mine = noted[2 * update : 2 * update + 2]
        for name in averages:
            sums = [(loss, (batch["labels"] != -100).sum().item()) for pair, loss, batch in mine if pair == name]
            if sums:
                new = sum(loss for loss, _ in sums) / sum(tokens for _, tokens in sums)
                averages[name] = new if math.isnan(averages[name]) else 0.9 * averages[name] + 0.1 * new
        assert losses.seen[update] == pytest.approx(list(averages.values()), nan_ok=True)


def test_shares_follow_what_the_baseline_does_not_explain(sampled, baseline, new_trainer):
    trainer = sampled("chi_ibr", max_steps=2)
    rule = trainer.samplers.rules[0]
    frozen = AutoModelForSeq2SeqLM.from_pretrained(baseline)
    text = trainer.train_pairs
    for name, known in zip(text, trainer.baseline_losses, strict=True):
        alone = new_trainer(model=frozen, data={"train": text, "validation": {name: text[name]}})
        assert known == pytest.approx(alone.evaluate()["eval_loss"], rel=1e-5)
    rule.averages = torch.tensor([9.0, 9.0], dtype=torch.float64)
    sizes = [len(each) for each in text.values()]
    expected = chi_square_shares(sizes, [9.0 - each for each in trainer.baseline_losses], 0.05)
    assert rule.decide(2) == pytest.approx(expected)
    assert rule.averages.isnan().all(), "they begin anew"
    rule.averages = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert rule.decide(2) == pytest.approx(chi_square_shares(sizes, [1.0, 2.0], 0.05)), "all are below the baseline"


def test_any_peer_of_any_method_may_have_one(sampled):
    trainer = sampled("multi_uat", "pareto_mutual", temperatures=[1.0, 5.0], max_steps=4, eval_steps=2)
    trainer.train()
    (found,) = decisions(trainer, 1)
    line = next(line for line in trainer.state.log_history if line["step"] == 3)
    assert {name: line[f"peer2_sampling_{name}"] for name in found} == pytest.approx(found, abs=1e-6)
    assert not any(name.startswith("peer1_sampling") for name in line), "τ does not change"
    assert line["sampler_seconds"] >= 0
    assert found.keys() == trainer.train_pairs.keys()
    assert trainer.args.sampling_names() == ["τ = 1", "MultiUAT"]
    assert "|samplers:none,multi_uat|" in trainer.signature()
    sampled("chi_ibr", "all_in_one", max_steps=4, eval_steps=2).train()


# ---- Schedules -------------------------------------------------------------------------------------------------------


def test_phases_change_what_is_drawn_where_they_meet(new_trainer):
    schedule = [{"share": 0.5, "pairs": ["fr-en"]}, {"share": 0.5, "temperature": 1000.0}]
    trainer = new_trainer(max_steps=8, sampling_schedule=schedule)
    distribution = trainer.text.streams[0].distribution
    for number in range(8):
        found = distribution.probabilities(SamplerState(number))
        assert found == pytest.approx({"fr-en": 1.0, "bs-en": 0.0} if number < 4 else {"fr-en": 0.5, "bs-en": 0.5}, abs=0.06)
    late = distribution.probabilities(SamplerState(7))["bs-en"]
    assert mean_probabilities(distribution, 8) == pytest.approx({"fr-en": 1 - late / 2, "bs-en": late / 2})
    state = trainer.text.streams[0].advance(SamplerState(), 4)
    assert state.draws == {"fr-en": 4}
    trainer.train()
    other = new_trainer(max_steps=8)
    with pytest.raises(TrainingError, match="was sampled by schedule"):
        other.train(resume_from_checkpoint=str(trainer.checkpoint(6)))


def test_a_function_says_what_is_drawn(new_trainer):
    asked = []

    def later_all(share, sizes):
        asked.append(share)
        return {"bs-en": 1.0} if share < 0.5 else dict.fromkeys(sizes, 1.0)

    trainer = new_trainer(max_steps=6, eval_steps=3, others={"sampling": later_all})
    trainer.train()
    assert trainer.text.states[0].draws["bs-en"] >= 3
    again = new_trainer(max_steps=6, eval_steps=3, others={"sampling": later_all})
    again.train(resume_from_checkpoint=str(trainer.checkpoint(3)))
    assert torch.equal(next(again.model.parameters()), next(trainer.model.parameters()))
    assert {round(each, 3) for each in asked} >= {0.0, 0.5}
    assert [row.probability for row in trainer.text.expected(6)] == pytest.approx([0.25, 0.75]), "of 1, although 2 were given"
    with pytest.raises(TrainingError, match=r"sampling: gave .* after 0% of the training; give pairs of the training"):
        new_trainer(others={"sampling": lambda share, sizes: {"xx-yy": 1.0}}).train()


def test_a_function_keeps_the_length_that_its_shares_are_of():
    planned, longer = (FunctionSampling(lambda done, sizes: {"a": 1 - done, "b": done}, {"a": 1, "b": 1}, n) for n in (10, 20))
    longer.load_state_dict(planned.state_dict())
    assert longer.probabilities(SamplerState(5)) == {"a": 0.5, "b": 0.5}
    assert longer.probabilities(SamplerState(15)) == {"a": 0.0, "b": 1.0}


def test_borders_stay_where_they_were():
    phases = phases_of([{"share": 0.25, "temperature": 1}, {"share": 0.75, "temperature": 5}])
    planned = scheduled(phases, {"a": 90, "b": 10}, 1.0, 100)
    longer = scheduled(phases, {"a": 90, "b": 10}, 1.0, 200)
    longer.load_state_dict(planned.state_dict())
    assert [number for number, _ in longer.changes] == [0, 25]


# ---- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"samplers": ["luck"]}, "samplers: 'luck' is not one of none, chi_ibr, multi_uat, multi_dds"),
        ({"samplers": ["none", "none"]}, "samplers: 2 are given for 1 temperatures"),
        ({"samplers": ["multi_uat"], "unimax_epochs": [2.0]}, "samplers, unimax_epochs: both say how one peer draws"),
        ({"samplers": ["chi_ibr"]}, "sampler_baseline: chi_ibr compares losses with those of a finished plain training"),
        ({"samplers": ["multi_uat"], "sampler_measure": "mood"}, "sampler_measure: 'mood' is not one of pre_tp"),
        ({"samplers": ["multi_uat"], "dataloader_num_workers": 1}, "dataloader_num_workers: draws ahead"),
        ({"sampler_radius": 0.2}, "sampler_radius: is for chi_ibr; set samplers"),
        ({"sampler_interval": 5}, "sampler_interval: is for a sampler that learns"),
        ({"sampling_schedule": [{"share": 0.5}]}, "the shares add up to 0.5, not to 1"),
        ({"sampling_schedule": [{"share": 1.0, "temperature": -1}]}, "phase 1: temperature -1 is not above 0"),
        ({"sampling_schedule": [{"part": 1.0}]}, "phase 1: {'part': 1.0} is no phase"),
        ({"sampling_schedule": [{"share": 1.0, "pairs": ["xx-yy"]}]}, "phase 1: xx-yy is none of fr-en, bs-en"),
        ({"sampling_schedule": [{"share": 1.0, "pairs": "fr-en"}]}, "phase 1: pairs 'fr-en' is no list"),
        ({"sampling_schedule": [{"share": 1.0}], "samplers": ["multi_uat"]}, "sampling_schedule: says how pairs are drawn"),
    ],
)
def test_what_does_not_fit_is_one_error(new_trainer, fields, message):
    with pytest.raises(TrainingError) as caught:
        new_trainer(**fields)
    assert message in str(caught.value)


def test_samplers_need_validation_text_and_a_baseline_of_the_same_vocabulary(new_trainer, encoded, tmp_path, new_model):
    some = {"train": encoded["train"], "validation": {"fr-en": encoded["validation"]["fr-en"]}}
    with pytest.raises(DataError, match="bs-en: has training but no validation text"):
        new_trainer(data=some, samplers=["multi_uat"])
    with pytest.raises(ModelError, match="no-such-run"):
        new_trainer(samplers=["chi_ibr"], sampler_baseline=str(tmp_path / "no-such-run"))
