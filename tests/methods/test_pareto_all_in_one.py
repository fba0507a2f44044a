"""Both methods at once: the written equation, and each of the two where the other is switched off."""

import pytest
import torch
from reference import all_in_one_loss, gradients, slice_logits, smoothed_cross_entropy

from hf_paretokd import Depth, ParetoAllInOneConfig
from hf_paretokd.errors import TrainingError
from hf_paretokd.methods.pareto_all_in_one import ParetoAllInOneModel

COMMON = {"max_steps": 6, "eval_steps": 3, "load_best_model_at_end": False}


@pytest.fixture
def trainer_defaults():
    return {"method": "pareto_all_in_one", "dropout": 0.2}


def all_weights(trainer):
    return [torch.cat([each.detach().flatten() for each in model.parameters()]) for model in trainer.model.models()]


@pytest.mark.parametrize("views", ["shared", "two", "independent"])
@pytest.mark.parametrize("students", ["2-2 3-2", "2-2 2-2", "3-2"])
@pytest.mark.parametrize("peers", [2, 3])
def test_loss_and_gradients_equal_the_slow_reference(new_model, batch, tmp_path, views, students, peers):
    """All-in-One KD, but (1 − α)·CE + α·KD from the mean of the other peers at full depth."""
    models, depths = [new_model(seed=seed) for seed in range(1, peers + 1)], [Depth.parse(text) for text in students.split()]
    fields = {"views": views, "detach_threshold": 1.0001, "temperatures": [1.0] * peers, "label_smoothing_factor": 0.1}
    joint = ParetoAllInOneModel(models, ParetoAllInOneConfig(output_dir=str(tmp_path), **fields)).train()
    inputs = [{**batch, "pair": "fr-en"}, *[None] * (peers - 1)]
    found = joint(inputs, [0, *[None] * (peers - 1)], weights=[0.3] * peers, students=depths, mutual_weight=0.5)
    expected, entropies = all_in_one_loss(models[0], batch, depths, 1.5, 0.5, 1.0001, 0.1)
    ours = slice_logits(models[0], "3-3", batch).log_softmax(-1)
    taught = sum(-(slice_logits(each, "3-3", batch).detach().softmax(-1) * ours).sum() for each in models[1:]) / (peers - 1)
    expected = expected - 0.3 * entropies[0] + 0.3 * taught
    assert found["losses"][0].item() == pytest.approx(expected.item(), rel=1e-5)
    mine, theirs = gradients(found["losses"][0], models[0]), gradients(expected, models[0])
    for name, gradient in theirs.items():
        torch.testing.assert_close(mine[name], gradient, rtol=1e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}")
    tokens = (batch["labels"] != -100).sum().item()
    logs = {name: (total / count).item() for name, (total, count) in found["logs"].items() if name.startswith("peer1_")}
    assert logs["peer1_loss_teacher"] == pytest.approx(entropies[0].item() / tokens, rel=1e-5)
    assert logs["peer1_kd"] == pytest.approx(taught.item() / tokens, rel=1e-5)
    plain = smoothed_cross_entropy(slice_logits(models[0], "3-3", batch), batch["labels"][batch["labels"] != -100], 0.0)
    assert logs["peer1_nll"] == pytest.approx(plain.item() / tokens, rel=1e-5)
    assert all(parameter.grad is None for model in models[1:] for parameter in model.parameters())


@pytest.mark.parametrize("views", ["shared", "two"])
def test_without_teaching_a_peer_is_trained_as_by_all_in_one_kd(new_trainer, new_model, views):
    fields = {"candidates": ["3-2", "2-2"], "views": views, **COMMON}
    both = new_trainer(distillation_weight=0.0, temperatures=[1.0, 3.0], **fields)
    both.train()
    alone = new_trainer("all_in_one", model=new_model(seed=1, dropout=0.2), folder="alone", mutual_start=0.0, **fields)
    alone.train()
    assert torch.equal(all_weights(both)[0], all_weights(alone)[0])


@pytest.mark.parametrize("strategy", ["bi", "uni", "auto"])
def test_with_the_full_depth_alone_it_is_pareto_mutual_distillation(new_trainer, strategy):
    fields = {"strategy": strategy, "update_interval": 2, "trial_share": 0.03, **COMMON}
    both = new_trainer(candidates=["3-3"], **fields)
    both.train()
    peers = new_trainer("pareto_mutual", folder="peers", **fields)
    peers.train()
    assert both.rule.weights == peers.rule.weights
    for one, other in zip(all_weights(both), all_weights(peers), strict=True):
        assert torch.equal(one, other)
    assert both.student_depths() == ()


@pytest.mark.parametrize("strategy", ["uni", "auto", "dynamic", "vanilla", "auto_official"])
def test_every_rule_decides_by_the_full_depth(new_trainer, strategy):
    fields = {"temperatures": [1.0, 1.0]} if strategy == "vanilla" else {}
    trainer = new_trainer(strategy=strategy, update_interval=2, trial_share=0.03, **COMMON, **fields)
    trainer.train()
    assert trainer.decision_depths() == (Depth(3, 3),)
    metrics = trainer.evaluate()
    assert {"eval_peer1_loss_3-3", "eval_peer2_loss_2-2"} <= set(metrics)
    measured = trainer.trials.losses(1)
    whole = trainer.pair_losses(trainer.model.models()[1], [Depth(3, 3)])
    assert measured == whole != trainer.pair_losses(trainer.model.models()[1], trainer.validation_depths())
    assert "rule:" in trainer.signature()
    assert "|alpha:1.5|" in trainer.signature()


def test_every_depth_of_every_peer_is_a_student(new_trainer, tmp_path):
    trainer = new_trainer(**COMMON)
    trainer.train()
    assert [str(depth) for depth in trainer.student_depths()] == ["2-2", "3-2", "3-3"]
    found = trainer.save_students(["2-2", "3-2"], tmp_path / "out")
    places = [path.relative_to(tmp_path / "out").as_posix() for path in found]
    assert places == [f"peers/{peer}/students/{depth}" for peer in (1, 2) for depth in ("2-2", "3-2")]
    assert all(Depth(2, 2) in trainer.sample_students(number) for number in range(9)), "the smallest, always"
    assert all(Depth(3, 3) not in trainer.sample_students(number) for number in range(50))


@pytest.mark.parametrize("strategy", ["uni", "auto"])
def test_a_resumed_training_is_the_unbroken_one(new_trainer, strategy):
    fields = {"strategy": strategy, "update_interval": 2, "trial_share": 0.03, "save_total_limit": 9, **COMMON}
    whole = new_trainer(**fields)
    whole.train()
    resumed = new_trainer(**fields)
    resumed.train(resume_from_checkpoint=str(whole.checkpoint(3)))
    for one, other in zip(all_weights(whole), all_weights(resumed), strict=True):
        assert torch.equal(one, other)


def test_settings_that_do_not_fit(new_trainer, tmp_path):
    for fields, message in (
        ({"students_per": "micro_batch"}, "students_per: peers and their searches share the students of an update"),
        ({"temperatures": [1.0]}, "two or more peers"),
        ({"num_students": 0}, "num_students: 0 is not at least 1"),
        ({"strategy": "best"}, "strategy: 'best' is not one of"),
    ):
        with pytest.raises(TrainingError, match=message):
            ParetoAllInOneConfig(output_dir=str(tmp_path), **fields)
    assert ParetoAllInOneConfig(output_dir=str(tmp_path)).temperatures == [1.0, 5.0]
