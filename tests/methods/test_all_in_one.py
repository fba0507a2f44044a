import math
from collections import Counter

import pytest
import torch
from reference import all_in_one_loss, gradients, kl, slice_logits, smoothed_cross_entropy
from transformers import EarlyStoppingCallback, MarianConfig, MarianMTModel, TrainerCallback

from hf_paretokd import AllInOneConfig, Depth, PlainConfig, candidate_depths
from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.methods.all_in_one import AllInOneModel
from hf_paretokd.methods.plain import PlainModel
from hf_paretokd.methods.students import LossRules
from hf_paretokd.models.files import save_model
from hf_paretokd.models.head import output_head
from hf_paretokd.models.slicing import extract_student, model_depth
from hf_paretokd.models.states import depth_states
from hf_paretokd.training import evaluating
from hf_paretokd.training.identity import weights_hash

ALPHA, BETA, ETA = 5.5, 0.5, 1.1


def config(tmp_path, **fields):
    defaults = {
        "output_dir": str(tmp_path / "run"),
        "max_steps": 8,
        "max_tokens": 400,
        "warmup_steps": 2,
        "eval_steps": 2,
        "logging_steps": 2,
        "learning_rate": 1e-3,
        "kd_weight": ALPHA,
        "disable_tqdm": True,
    }
    return AllInOneConfig(**{**defaults, **fields})


@pytest.fixture
def trainer_defaults():
    return {"method": "all_in_one", "max_steps": 8, "eval_steps": 2, "logging_steps": 2, "learning_rate": 1e-3, "always": []}


# ---- candidates (D-12) ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "count"), [(2, 1), (3, 3), (4, 6), (5, 10), (6, 15), (7, 21), (12, 66)])
def test_number_of_candidates(layers, count):
    assert len(candidate_depths(Depth(layers, layers))) == count


def test_which_candidates():
    found = {str(depth) for depth in candidate_depths(Depth(6, 6))}
    assert {"6-6", "2-2"} <= found
    assert not {"6-1", "3-4"} & found


def test_candidates_of_uneven_teachers_and_lists():
    assert [str(d) for d in candidate_depths(Depth(4, 2))] == ["2-2", "3-2", "4-2"]
    assert [str(d) for d in candidate_depths(Depth(3, 6))] == ["2-2", "3-2", "3-3"]
    assert candidate_depths(Depth(6, 6), ["6-1", "1-1"]) == (Depth(1, 1), Depth(6, 1))
    for bad in (["7-2"], ["6-2", "6-2"], ["x"], ["2-0"], []):
        with pytest.raises(ModelError):
            candidate_depths(Depth(6, 6), bad)
    with pytest.raises(ModelError):
        candidate_depths(Depth(6, 1))


# ---- sampling (D-16) --------------------------------------------------------------------------------------------------


def test_sampling_statistics(new_model, new_trainer):
    trainer = new_trainer(model=new_model(encoder_layers=6, decoder_layers=6))
    draws = [trainer.sample_students(update) for update in range(12_000)]
    equal = sum(first == second for first, second in draws) / len(draws)
    full = sum(Depth(6, 6) in pair for pair in draws) / len(draws)
    assert equal == pytest.approx(1 / 15, abs=0.008)
    assert full == pytest.approx(29 / 225, abs=0.01)
    assert sum(d.encoder for pair in draws for d in pair) / 24_000 == pytest.approx(4.6667, abs=0.03)
    assert sum(d.decoder for pair in draws for d in pair) / 24_000 == pytest.approx(3.3333, abs=0.03)
    counts = Counter(depth for pair in draws for depth in pair)
    assert set(counts) == set(candidate_depths(Depth(6, 6)))
    assert all(abs(count / 24_000 - 1 / 15) < 0.008 for count in counts.values())


def test_sampling_is_a_function_of_seed_and_update(new_trainer):
    assert new_trainer().sample_students(7) == new_trainer().sample_students(7)
    first, second = new_trainer(), new_trainer(seed=43)
    assert [first.sample_students(update) for update in range(20)] != [second.sample_students(update) for update in range(20)]
    assert len({tuple(first.sample_students(update)) for update in range(20)}) > 3
    some = new_trainer(num_students=3, sample_with_replacement=False)
    assert all(len(set(some.sample_students(update))) == 3 for update in range(50))
    with pytest.raises(TrainingError, match="num_students"):
        new_trainer(num_students=4, sample_with_replacement=False)


def test_depths_that_are_always_drawn(new_trainer):
    smallest = new_trainer(always=None)
    draws = [smallest.sample_students(update) for update in range(300)]
    assert all(first == Depth(2, 2) for first, _ in draws)
    others = Counter(second for _, second in draws)
    assert set(others) == {Depth(3, 2), Depth(3, 3)}, "the others are drawn from the rest"
    assert abs(others[Depth(3, 2)] - 150) < 40
    two = new_trainer(always=["3-3", "2-2"], num_students=3)
    assert {tuple(two.sample_students(update)) for update in range(20)} == {(Depth(3, 3), Depth(2, 2), Depth(3, 2))}
    assert new_trainer(always=None, candidates=["3-3"]).sample_students(1) == [Depth(3, 3)] * 2
    assert new_trainer(always=None, candidates=["3-1", "2-2", "3-3"]).always == [Depth(3, 1)], (
        "of equal sums the shorter decoder"
    )
    with pytest.raises(TrainingError, match="always: 3-1 is not among the candidates 2-2, 3-2, 3-3"):
        new_trainer(always=["3-1"])
    with pytest.raises(TrainingError, match=r"always: .* is not at most 2 depths, as num_students"):
        new_trainer(always=["3-3", "2-2", "3-2"])


def test_the_form_of_the_paper(tmp_path):
    names = ("views", "kd_weight", "mutual_weight", "mutual_start", "always")
    settled = lambda **fields: [getattr(AllInOneConfig(output_dir=str(tmp_path), **fields), name) for name in names]  # noqa: E731
    assert settled() == ["shared", 1.5, 0.5, 0.0, None]
    assert settled(preset="paper") == ["independent", 5.5, 0.5, 0.5, []]
    assert settled(preset="paper", kd_weight=4.5, mutual_weight=0.1) == ["independent", 4.5, 0.1, 0.5, []]
    for field, value in (("views", "shared"), ("mutual_start", 0.0), ("always", ["2-2"])):
        with pytest.raises(TrainingError, match=f"{field}: .* was given, but preset paper has"):
            settled(preset="paper", **{field: value})
    with pytest.raises(TrainingError, match="preset: 'papers' is not paper"):
        settled(preset="papers")


def test_students_per_update_or_micro_batch(new_trainer):
    trainer = new_trainer(students_per="update")
    assert trainer.joint_arguments(0, [])["students"] == trainer.joint_arguments(1, [])["students"]
    other = new_trainer(students_per="micro_batch")
    assert len({tuple(other.joint_arguments(number, [])["students"]) for number in range(20)}) > 3
    trainer.state.global_step = 1
    assert len({tuple(trainer.joint_arguments(number, [])["students"]) for number in range(20)}) == 1


# ---- the loss (D-13, D-14, D-15) --------------------------------------------------------------------------------------


def total(entropies, kd, mutual, terms):
    """L of Eq. 1 from given cross-entropies and divergences."""
    values = iter([*kd, *([mutual] if len(terms) > len(kd) else [])])
    return sum(entropies) + sum(term.weight * next(values) for term in terms)


def test_loss_vector():
    rules = LossRules(ALPHA, ETA, False, False)
    entropies = [2.0, 2.3, 2.1]
    stage1, stage2 = (rules.divergences(entropies, beta) for beta in (0.0, BETA))
    assert total(entropies, (0.4, 0.2), 0.15, stage1) == pytest.approx(8.05)
    assert total(entropies, (0.4, 0.2), 0.15, stage2) == pytest.approx(8.125)
    assert [not term.teacher_gradient for term in stage2[:2]] == [True, False]
    assert (stage2[2].teacher, stage2[2].student) == (2, 1), "the second student has the lower loss and is the senior"


def test_detach_at_exactly_the_threshold():
    entropies = [2.0, 2.5]
    assert LossRules(1.0, 1.25, False, False).divergences(entropies, 0)[0].teacher_gradient
    assert not LossRules(1.0, 1.25, True, False).divergences(entropies, 0)[0].teacher_gradient
    assert LossRules(1.0, math.inf, False, False).divergences([1.0, 99.0], 0)[0].teacher_gradient


@pytest.mark.parametrize(("count", "pairs", "factor"), [(1, 0, 0), (2, 1, 1), (3, 3, 1 / 3), (4, 6, 1 / 6), (5, 10, 1 / 10)])
def test_mutual_pairs_and_their_weight(count, pairs, factor):
    terms = LossRules(ALPHA, ETA, False, False).divergences([1.0] * (count + 1), BETA)
    mutual = terms[count:]
    assert len(mutual) == pairs
    assert all(term.weight == pytest.approx(BETA * factor) for term in mutual)
    assert all(term.teacher < term.student for term in mutual), "at equality the lower index is the senior"
    assert all(term.weight == pytest.approx(ALPHA / count) for term in terms[:count])


@pytest.mark.parametrize("views", ["shared", "two", "independent"])
@pytest.mark.parametrize("students", ["2-2 3-2", "3-3 2-2", "2-2 2-2", "3-3 3-3", "3-2", "2-2 3-2 3-3", "1-1 3-1"])
@pytest.mark.parametrize("eta", [1.0001, math.inf])
def test_loss_and_gradients_equal_the_slow_reference(new_model, batch, tmp_path, students, views, eta):
    model = new_model(seed=5)
    depths = [Depth.parse(text) for text in students.split()]
    arguments = config(tmp_path, detach_threshold=eta, views=views, label_smoothing_factor=0.1)
    joint = AllInOneModel(model, arguments).train()
    found = joint([batch], [0], students=depths, mutual_weight=BETA)
    expected, entropies = all_in_one_loss(model, batch, depths, ALPHA, BETA, eta, 0.1)
    assert found["losses"].item() == pytest.approx(expected.item(), rel=1e-6)
    tokens = (batch["labels"] != -100).sum()
    assert found["logs"]["loss_teacher"][0].item() == pytest.approx(entropies[0].item(), rel=1e-5)
    ours, theirs = gradients(found["losses"].sum() / tokens, model), gradients(expected / tokens, model)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("views", ["shared", "two"])
def test_an_anchor_teaches_every_depth(new_model, batch, tmp_path, views):
    """Slow reference: γ/(K+1)·Σ KL(anchor ‖ model) on top, no gradient into the anchor; equal without dropout in every view."""
    model, anchor = new_model(seed=5), new_model(seed=7).eval()
    joint = AllInOneModel(model, config(tmp_path, views=views, anchor_weight=0.7, label_smoothing_factor=0.1)).train()
    joint.anchors = [anchor.requires_grad_(False)]
    students = [Depth(3, 2), Depth(2, 2)]
    found = joint([batch], [0], students=students, mutual_weight=BETA)
    expected, _ = all_in_one_loss(model, batch, students, ALPHA, BETA, ETA, 0.1)
    taught, total = slice_logits(anchor, model_depth(anchor), batch), 0.0
    for depth in (model_depth(model), *students):
        total = total + kl(taught, slice_logits(model, depth, batch))
    expected = expected + 0.7 / 3 * total
    assert found["losses"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert found["logs"]["loss_anchor"][0].item() == pytest.approx(total.item(), rel=1e-5)
    tokens = (batch["labels"] != -100).sum()
    ours, theirs = gradients(found["losses"].sum() / tokens, model), gradients(expected / tokens, model)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    assert all(parameter.grad is None for parameter in anchor.parameters())


@pytest.mark.parametrize("consistency", ["r_drop", "simcut", "cutoff", "cipher"])
@pytest.mark.parametrize("views", ["shared", "two"])
def test_a_consistency_loss_is_that_of_every_depth(new_model, batch, tmp_path, ciphered_tokenizer, consistency, views):
    """Without dropout and with all words cut every depth adds its own loss, less the entropy of the first view."""
    model, students = new_model(seed=5), [Depth(3, 2), Depth(2, 2)]
    fields = {"consistency": consistency, "consistency_weight": 0.7, "label_smoothing_factor": 0.1}
    fields |= {"cut_rate": 1.0} if consistency in ("simcut", "cutoff") else {}
    batch |= {f"cipher_{name}": batch[name].flip(0) for name in ("input_ids", "attention_mask")}
    joint = AllInOneModel(model, config(tmp_path, views=views, **fields)).train()
    joint.second.settle(ciphered_tokenizer)
    found = joint([batch], [0], students=students, mutual_weight=BETA)["losses"]
    expected, _ = all_in_one_loss(model, batch, students, ALPHA, BETA, ETA, 0.1)
    for depth in (model_depth(model), *students):
        plain = PlainModel(extract_student(model, depth), PlainConfig(output_dir=str(tmp_path), **fields)).train()
        plain.second.settle(ciphered_tokenizer)
        alone = PlainModel(extract_student(model, depth), PlainConfig(output_dir=str(tmp_path), label_smoothing_factor=0.1))
        expected = expected + plain([batch], [0])["losses"].sum() - alone.train()([batch], [0])["losses"].sum()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("views", ["shared", "independent"])
def test_seqmix_mixes_the_text_of_all_depths(new_model, batch, tmp_path, views):
    """One student without its divergences: the sum of two plain losses on the same mixed text."""
    model, depth = new_model(seed=5), Depth(2, 2)
    joint = AllInOneModel(model, config(tmp_path, views=views, kd_weight=0.0, seqmix=0.6, label_smoothing_factor=0.1)).train()
    found = joint([batch], [3], students=[depth], mutual_weight=0.0)["losses"]
    fields = {"seqmix": 0.6, "label_smoothing_factor": 0.1}
    each = [
        PlainModel(whole, PlainConfig(output_dir=str(tmp_path), **fields)).train()([batch], [3])["losses"].sum()
        for whole in (model, extract_student(model, depth))
    ]
    assert found.item() == pytest.approx(sum(each).item(), rel=1e-5)


def test_mixed_sentences_and_cut_words_train(new_trainer, tmp_path):
    trainer = new_trainer(consistency="cutoff", seqmix=0.3, max_steps=2, eval_steps=2, mutual_start=0.0)
    trainer.train()
    assert trainer.summed_losses == 6
    assert any("loss_consistency" in line for line in trainer.state.log_history)
    with pytest.raises(TrainingError, match="seqmix, anchor: a frozen teacher has nothing to say"):
        config(tmp_path, seqmix=0.1, anchor="somewhere")


def test_an_anchor_is_neither_trained_nor_saved_and_belongs_to_the_record(new_trainer, new_model, tokenizer, tmp_path):
    save_model(new_model(seed=7), tokenizer, tmp_path / "anchor")
    save_model(new_model(seed=8), tokenizer, tmp_path / "other")
    fields = {"anchor": str(tmp_path / "anchor"), "max_steps": 4, "eval_steps": 2}
    whole = new_trainer(folder="whole", **fields)
    before = weights_hash(whole.model.anchors[0])
    whole.train()
    assert weights_hash(whole.model.anchors[0]) == before
    assert not any("anchor" in name for name in whole.model.state_dict())
    assert all("loss_anchor" in line for line in whole.state.log_history if "loss_kd" in line)
    assert any(line.get("loss_anchor", 0) > 0 for line in whole.state.log_history)
    half = new_trainer(folder="half", **fields)
    half.train()
    again = new_trainer(folder="half", **fields)
    again.train(resume_from_checkpoint=str(half.checkpoint(2)))
    for mine, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    with pytest.raises(TrainingError, match="anchor was"):
        new_trainer(folder="half", **{**fields, "anchor": str(tmp_path / "other")}).train(resume_from_checkpoint=True)
    with pytest.raises(TrainingError, match=r"anchor_weight: -1\.0 is out of range"):
        config(tmp_path, anchor_weight=-1.0)
    few = {"vocab_size": 50, "pad_token_id": 49, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    save_model(MarianMTModel(MarianConfig(**few)), None, tmp_path / "small")
    with pytest.raises(ModelError, match=r"anchor: .*small has another vocabulary than the student"):
        new_trainer(**{**fields, "anchor": str(tmp_path / "small")})


def test_detaching_changes_only_the_teachers_path(new_model, batch, tmp_path):
    model = new_model(seed=5)
    grads = []
    for eta in (0.0, math.inf):
        joint = AllInOneModel(model, config(tmp_path, detach_threshold=eta))
        grads.append(gradients(joint([batch], [0], students=[Depth(2, 2)], mutual_weight=0.0)["losses"].sum(), model))
    top = "model.decoder.layers.2.fc1.weight"  # used by the teacher alone: only its path through the KL differs
    assert not torch.allclose(grads[0][top], grads[1][top])


@pytest.mark.parametrize(("views", "same"), [("shared", [True, True]), ("two", [False, True]), ("independent", [False, False])])
def test_views_have_their_own_dropout(new_model, batch, tmp_path, views, same):
    """Between the teacher and a student as deep, and between two such students."""
    joint = AllInOneModel(new_model(dropout=0.3), config(tmp_path, views=views)).train()
    logs = joint([batch], [0], students=[Depth(3, 3)] * 2, mutual_weight=1.0)["logs"]
    assert [logs[name][0].item() == 0 for name in ("loss_kd", "loss_mutual")] == same


def test_students_of_one_view_share_their_prefixes(new_model, batch, tmp_path):
    """Encoder layers run once a view, decoder layers once a view and encoder depth."""
    model, ran = new_model(dropout=0.3), Counter()
    for side in ("encoder", "decoder"):
        for number, layer in enumerate(getattr(model, f"get_{side}")().layers, 1):
            layer.register_forward_hook(lambda *_, name=(side, number): ran.update([name]))
    students = [Depth(2, 2), Depth(3, 2), Depth(3, 3)]
    for views, encoders, decoders in (("shared", [1, 1, 1], [2, 2, 1]), ("two", [2, 2, 2], [3, 3, 2])):
        ran.clear()
        AllInOneModel(model, config(tmp_path, views=views)).train()([batch], [0], students=students, mutual_weight=1.0)
        assert [ran["encoder", layer] for layer in (1, 2, 3)] == encoders
        assert [ran["decoder", layer] for layer in (1, 2, 3)] == decoders


# ---- training -----------------------------------------------------------------------------------------------------------


def test_everything_is_logged(new_trainer):
    trainer = new_trainer(mutual_start=0.0)
    trainer.train()
    training = [line for line in trainer.state.log_history if "loss_kd" in line]
    assert {"loss", "loss_teacher", "loss_students", "loss_kd", "loss_mutual", "detach_rate", "seconds"} <= set(training[0])
    validation = [line for line in trainer.state.log_history if "eval_loss" in line][-1]
    depths = [validation[f"eval_loss_{depth}"] for depth in trainer.candidates]
    assert validation["eval_loss"] == pytest.approx(sum(depths) / len(depths), rel=1e-6)  # Eq. 9
    assert validation["eval_loss"] == pytest.approx((validation["eval_loss_fr-en"] + validation["eval_loss_bs-en"]) / 2)
    assert validation["eval_nll"] < validation["eval_loss"]


def test_one_stage_never_adds_or_always_has_the_mutual_term(new_trainer):
    assert new_trainer(mutual_start=0.0).joint_arguments(0, [])["mutual_weight"] == BETA
    never = new_trainer(mutual_start=1.0)
    never.state.global_step = 7
    assert never.joint_arguments(0, [])["mutual_weight"] == 0
    assert never.border is None


def test_two_stages(new_trainer, monkeypatch):
    scripted_validations(monkeypatch, [9.0, 5.0, 4.0, 8.0, 7.0])  # the first checks the names
    trainer = new_trainer(mutual_start=0.5, max_steps=8, stage2_reset=["optimizer", "scheduler", "best_metric"])
    seen, best = [], {}
    begin, arguments = trainer.begin_stage_two, trainer.joint_arguments

    def watched_begin():
        best["step"] = trainer.state.best_global_step
        begin()
        best["weights"] = trainer.model.teacher.get_input_embeddings().weight.detach().clone()
        best["state"] = len(trainer.optimizer.optimizer.state)

    def watched_arguments(number, batches):
        found = arguments(number, batches)
        seen.append((trainer.state.global_step, found["mutual_weight"], trainer.lr_scheduler.get_last_lr()[0]))
        return found

    trainer.begin_stage_two, trainer.joint_arguments = watched_begin, watched_arguments
    trainer.train()
    assert [weight for _, weight, _ in seen] == [0, 0, 0, 0, BETA, BETA, BETA, BETA]
    rates = [rate for _, _, rate in seen]
    assert rates[4:] == rates[:4], "the schedule starts anew"
    assert best["state"] == 0, "Adam starts anew"
    assert best["step"] == 4
    assert trainer.state.best_global_step == 8, "the best of stage one no longer counts"
    scripted_validations(monkeypatch, [9.0, 5.0, 4.0, 8.0, 7.0])
    kept = new_trainer(mutual_start=0.5, max_steps=8, folder="kept")
    kept.train()
    assert kept.state.best_global_step == 4, "it counts on unless it is reset"


def test_what_stage_two_keeps(new_trainer):
    """Without resets Adam's moments and the schedule go on."""
    trainer = new_trainer(mutual_start=0.5, max_steps=8, stage2_reset=[], logging_steps=1)
    begin, moments = trainer.begin_stage_two, []
    trainer.begin_stage_two = lambda: (begin(), moments.append(len(trainer.optimizer.optimizer.state)))
    trainer.train()
    assert moments[0] > 0
    rates = [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line]
    whole = new_trainer(mutual_start=0.0, max_steps=8, logging_steps=1, folder="whole")
    whole.train()
    assert rates == [line["learning_rate"] for line in whole.state.log_history if "learning_rate" in line]


def test_each_stage_warms_up_for_its_share(new_trainer):
    """A warm-up below 1 is a share: of 3 updates in stage one, of 9 in stage two."""
    fields = {"mutual_start": 0.25, "max_steps": 12, "warmup_steps": 0.667, "lr_scheduler_type": "linear", "learning_rate": 1.0}
    trainer = new_trainer(**fields)
    schedule = trainer.create_scheduler(12, torch.optim.SGD([torch.zeros(1)], lr=1.0))
    factors = [schedule.lr_lambdas[0](step) for step in range(12)]
    first, second = math.ceil(0.667 * 3), math.ceil(0.667 * 9)
    assert factors[:3] == pytest.approx([step / first if step < first else (3 - step) / (3 - first) for step in range(3)])
    assert factors[3:] == pytest.approx([step / second if step < second else (9 - step) / (9 - second) for step in range(9)])


def test_the_end_of_stage_one_is_validated_whenever_that_is(new_trainer):
    trainer = new_trainer(mutual_start=0.375, max_steps=8, eval_steps=100, save_steps=100)
    trainer.train()
    assert [line["step"] for line in trainer.state.log_history if "eval_loss" in line] == [3, 8]
    assert trainer.checkpoint(3).is_dir()
    begun = new_trainer(mutual_start=0.375, max_steps=8, folder="other")
    weights = []
    for step in range(8):
        begun.state.global_step = step
        weights.append(begun.joint_arguments(step, [])["mutual_weight"])
    assert weights == [0, 0, 0, BETA, BETA, BETA, BETA, BETA]


@pytest.mark.parametrize(("eta", "rate"), [(math.inf, 0.0), (0.0, 1.0)])
def test_figures_of_a_micro_batch_are_means_over_models_and_tokens(new_model, batch, tmp_path, eta, rate):
    model = new_model(seed=5)
    depths = [Depth(2, 2), Depth(3, 2), Depth(2, 2)]
    joint = AllInOneModel(model, config(tmp_path, detach_threshold=eta))
    logs = joint([batch], [0], students=depths, mutual_weight=BETA)["logs"]
    figures = {name: (total / count).item() for name, (total, count) in logs.items()}
    targets = batch["labels"][batch["labels"] != -100]
    states = [next(depth_states(model, batch, [depth]))[1] for depth in (Depth(3, 3), *depths)]
    head = output_head(model)
    logits = [torch.nn.functional.linear(each, head.matrix, head.bias) for each in states]
    entropies = [smoothed_cross_entropy(each, targets, 0.1).item() / len(targets) for each in logits]
    assert figures["loss_teacher"] == pytest.approx(entropies[0], rel=1e-5)
    assert figures["loss_students"] == pytest.approx(sum(entropies[1:]) / 3, rel=1e-5)
    taught = [kl(logits[0], each).item() / len(targets) for each in logits[1:]]
    assert figures["loss_kd"] == pytest.approx(sum(taught) / 3, rel=1e-4)
    senior, junior = (1, 2) if entropies[1] <= entropies[2] else (2, 1)  # depths 2-2 and 3-2; the third is the first again
    between = kl(logits[senior], logits[junior]).item() / len(targets)
    assert figures["loss_mutual"] == pytest.approx(2 * between / 3, rel=1e-4)
    assert figures["detach_rate"] == rate


def test_stage_two_starts_from_the_best_of_stage_one(new_trainer, monkeypatch):
    trainer = new_trainer(mutual_start=0.5, max_steps=8)
    losses = iter([5.0, 6.0, 7.0, 8.0, 9.0])
    real = trainer.evaluate
    monkeypatch.setattr(trainer, "evaluate", lambda **kwargs: {**real(**kwargs), "eval_loss": next(losses)})
    loaded = []
    load = trainer._load_models
    monkeypatch.setattr(trainer, "_load_models", lambda folder: (loaded.append(folder.name), load(folder)))
    trainer.train()
    assert loaded == ["checkpoint-2", "checkpoint-2"], "at the border, and at the end"


def scripted_validations(monkeypatch, losses):
    """Validations find out these losses, one after the other, and the last one from then on."""
    left = list(losses)
    real = evaluating.metrics_of_peers

    def found(*arguments):
        return {**real(*arguments), "loss": left.pop(0) if len(left) > 1 else left[0]}

    monkeypatch.setattr(evaluating, "metrics_of_peers", found)


def test_early_stopping_ends_the_stage_first(new_trainer, monkeypatch, tmp_path):
    """Stage two begins early, from the best of stage one, as long as planned; the record says so and a resume goes on."""
    plan = {"mutual_start": 0.5, "max_steps": 12, "eval_steps": 1, "logging_steps": 1, "save_total_limit": None}
    scripted_validations(monkeypatch, [9.0, 5.0, 6.0, 7.0, 4.0, 3.9, 3.8, 3.7, 3.6, 3.5])  # the first checks the names
    trainer = new_trainer(callbacks=[EarlyStoppingCallback(2)], **plan)
    seen = []
    arguments, begin = trainer.joint_arguments, trainer.begin_stage_two
    trainer.joint_arguments = lambda *given: seen.append(arguments(*given)) or seen[-1]
    begun = []
    trainer.begin_stage_two = lambda: (begun.append((trainer.state.global_step, trainer.state.best_global_step)), begin())
    trainer.train()
    assert begun == [(3, 1)]
    assert trainer.state.global_step == 9
    assert [found["mutual_weight"] for found in seen] == [0.0] * 3 + [BETA] * 6
    assert "|updates:12-3|" in trainer.signature()
    rates = [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line]
    assert rates[3:6] == rates[:3], "the schedule starts anew where stage two does"
    assert trainer.args.max_steps == 9
    for update in (2, 5):
        left = {2: [9.0, 7.0, 4.0, 3.9, 3.8, 3.7, 3.6, 3.5], 5: [9.0, 3.8, 3.7, 3.6, 3.5]}[update]
        scripted_validations(monkeypatch, left)
        resumed = new_trainer(callbacks=[EarlyStoppingCallback(2)], restore_callback_states_from_checkpoint=True, **plan)
        resumed.train(resume_from_checkpoint=str(trainer.checkpoint(update)))
        assert (resumed.state.global_step, resumed.border) == (9, 3), update
        for name, value in trainer.model.teacher.state_dict().items():
            assert torch.equal(resumed.model.teacher.state_dict()[name], value), (update, name)


def test_early_stopping_in_stage_two_and_other_stops_end_the_training(new_trainer, monkeypatch):
    scripted_validations(monkeypatch, [9.0, 5.0, 4.0, 3.0, 6.0, 7.0, 8.0])
    trainer = new_trainer(callbacks=[EarlyStoppingCallback(2)], mutual_start=0.25, max_steps=12, eval_steps=1)
    trainer.train()
    assert (trainer.state.global_step, trainer.border) == (5, 3)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 2

    other = new_trainer(callbacks=[Stop()], mutual_start=0.5, max_steps=8, eval_steps=1, folder="other")
    other.train()
    assert (other.state.global_step, other.border) == (2, 4)


def test_schedules_that_cannot_restart_are_refused(new_trainer):
    with pytest.raises(TrainingError, match=r"reduce_lr_on_plateau cannot start anew in stage two; .*stage2_reset"):
        new_trainer(lr_scheduler_type="reduce_lr_on_plateau")


def test_inverse_sqrt_schedule(new_trainer):
    """D-25, but for the start: transformers warms up from 0, the official code from 1e-7."""
    trainer = new_trainer(max_steps=600_000, learning_rate=5e-4, warmup_steps=4000, lr_scheduler_type="inverse_sqrt")
    trainer.create_optimizer()
    schedule = trainer.create_scheduler(600_000)
    for step, expected in ((2000, 2.5e-4), (4000, 5e-4), (16_000, 2.5e-4), (299_999, 5.77351e-5), (304_000, 5e-4)):
        assert 5e-4 * schedule.lr_lambdas[0](step) == pytest.approx(expected, rel=1e-4)
    assert schedule.lr_lambdas[0](300_000) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"num_students": 0},
        {"kd_weight": -1.0},
        {"mutual_weight": -0.1},
        {"mutual_start": 1.5},
        {"students_per": "epoch"},
        {"stage2_reset": ["model"]},
        {"detach_threshold": -1.0},
        {"eval_strategy": "no", "mutual_start": 0.5},
        {"label_smoothing_variant": "other"},
        {"max_tokens": 0},
        {"temperatures": [0.0]},
        {"label_smoothing_factor": 1.0},
    ],
)
def test_impossible_values_are_refused(tmp_path, fields):
    with pytest.raises(TrainingError, match=next(iter(fields)) if "eval_strategy" not in fields else "mutual_start"):
        config(tmp_path, **fields)
