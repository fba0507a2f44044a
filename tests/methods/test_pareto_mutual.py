"""The joint forward of the peers, the trainer around it, and what it refuses."""

import copy
import json

import pytest
import torch
from reference import pareto_loss
from transformers import TrainerCallback

from hf_paretokd import ParetoMutualConfig, ParetoMutualTrainer, PlainConfig, PlainTrainer
from hf_paretokd.data.sampling import SamplerState
from hf_paretokd.errors import DataError, ModelError, RecipeError, TrainingError
from hf_paretokd.losses import JointLoss
from hf_paretokd.methods.pareto_mutual import ParetoMutualModel


@pytest.fixture
def trainer_defaults():
    return {"method": "pareto_mutual"}


def logits_of(model, batch):
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    return model(**inputs).logits[batch["labels"] != -100][:, :-1]


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def losses(trainer):
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def assert_same(models, others):
    for one, other in zip(models, others, strict=True):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


# ---- the loss -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.4, 1.0])
@pytest.mark.parametrize("peers", [2, 3])
def test_loss_and_gradients_equal_the_slow_reference(new_model, batch, tmp_path, alpha, peers):
    models = [new_model(seed=seed) for seed in range(peers)]
    config = ParetoMutualConfig(output_dir=str(tmp_path), temperatures=[1.0] * peers)
    joint = ParetoMutualModel(models, config).train()
    batches, targets = [{**batch, "pair": "fr-en"}] * peers, batch["labels"][batch["labels"] != -100]
    found = joint(batches, [0] * peers, [alpha] * peers)
    logits = [logits_of(model, batch) for model in models]
    for place, model in enumerate(models):
        expected = pareto_loss(logits[place], logits[:place] + logits[place + 1 :], targets, alpha, 0.1)
        assert found["losses"][place].item() == pytest.approx(expected.item(), rel=1e-5)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        ours = torch.autograd.grad(found["losses"][place], parameters, retain_graph=True)
        theirs = torch.autograd.grad(expected, parameters, retain_graph=True)
        for mine, reference in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine / len(targets), reference / len(targets), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, 0.8), (0.1, 0.83), (0.4, 0.92), (1.0, 1.1)])
def test_the_weighted_sum(monkeypatch, new_model, batch, tmp_path, alpha, expected):
    """D-10: L_ce = 0.8 and L_kd = 1.1 per token."""
    from hf_paretokd.models import joint as module

    def scripted(states, heads, targets, smoothing, weights, terms, *others):
        total = torch.tensor(weights[0] * 0.8 + sum(term.weight * 1.1 for term in terms))
        return JointLoss(total, torch.zeros(len(weights)), torch.zeros(len(weights)), terms, torch.zeros(len(terms)), total)

    monkeypatch.setattr(module, "joint_loss", scripted)
    joint = ParetoMutualModel([new_model(seed=1), new_model(seed=2)], ParetoMutualConfig(output_dir=str(tmp_path)))
    found = joint([{**batch, "pair": "fr-en"}] * 2, [0, 0], [alpha] * 2)["losses"]
    assert found.tolist() == pytest.approx([expected] * 2)


def test_what_several_teachers_teach_is_logged_as_their_mean(new_model, batch, tmp_path):
    peers = [new_model(seed=seed) for seed in (1, 2, 3)]
    inputs = [{**batch, "pair": "fr-en"}, None]

    def kd(others):
        joint = ParetoMutualModel([peers[0], *others], ParetoMutualConfig(output_dir=str(tmp_path)))
        total, count = joint(inputs, [0, None], [0.5, None])["logs"]["peer1_kd"].tolist()
        return total / count

    assert kd(peers[1:]) == pytest.approx((kd([peers[1]]) + kd([peers[2]])) / 2, rel=1e-5)


def test_a_teacher_gets_no_gradient(new_model, batch, tmp_path):
    models = [new_model(seed=1), new_model(seed=2)]
    joint = ParetoMutualModel(models, ParetoMutualConfig(output_dir=str(tmp_path)))
    joint([{**batch, "pair": "fr-en"}, None], [0, None], [0.5, None])["losses"].sum().backward()
    assert all(parameter.grad is None for parameter in models[1].parameters())
    assert models[0].get_input_embeddings().weight.grad.any()


def test_where_alpha_is_zero_no_teacher_is_asked(new_model, batch, tmp_path):
    models = [new_model(seed=1), new_model(seed=2)]
    joint = ParetoMutualModel(models, ParetoMutualConfig(output_dir=str(tmp_path)))
    calls = []
    models[1].get_encoder().register_forward_hook(lambda *_: calls.append(1))
    names = []
    for alpha, expected in ((0.0, 0), (0.1, 1)):
        calls.clear()
        names.append(list(joint([{**batch, "pair": "fr-en"}, None], [0, None], [alpha, None])["logs"]))
        assert len(calls) == expected
    assert names[0] == names[1], "processes with and without a teacher add up the same figures"


@pytest.mark.parametrize("dropout", [False, True])
def test_teacher_dropout_is_an_option(new_model, batch, tmp_path, dropout):
    models = [new_model(seed=1, dropout=0.0), new_model(seed=2, dropout=0.4)]
    config = ParetoMutualConfig(output_dir=str(tmp_path), teacher_dropout=dropout)
    joint = ParetoMutualModel(models, config).train()
    kd = [joint([{**batch, "pair": "fr-en"}, None], [seed, None], [0.5, None])["logs"]["peer1_kd"][0].item() for seed in (1, 2)]
    assert (kd[0] != kd[1]) is dropout
    assert models[1].training, "teaching leaves the mode as it was"


# ---- the training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 2])
def test_equals_a_hand_written_loop_with_separate_optimizers(new_trainer, new_model, accumulation):
    models = [new_model(seed=1), new_model(seed=2)]
    copies = copy.deepcopy(models)
    limits, alpha, rate = 0.3, 0.4, 1e-3
    trainer = new_trainer(
        model=models,
        max_steps=4,
        distillation_weight=alpha,
        gradient_accumulation_steps=accumulation,
        learning_rate=rate,
        warmup_steps=0,
        lr_scheduler_type="constant",
        max_grad_norm=limits,
        weight_decay=0.01,
        adam_epsilon=1e-6,  # or Adam would scale the rounding of tiny gradients up to whole steps
        load_best_model_at_end=False,
    )
    stream = iter(trainer.get_train_dataloader())
    decayed = trainer.get_decay_parameter_names(copies[0])
    optimizers = []
    for model in copies:
        named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
        groups = [
            {"params": [each for name, each in named if name in decayed], "weight_decay": 0.01},
            {"params": [each for name, each in named if name not in decayed], "weight_decay": 0.0},
        ]
        optimizers.append(torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-6))
    expected, clipped = [], 0
    for _ in range(4):
        samples = [next(stream)["batches"] for _ in range(accumulation)]
        total = 0.0
        for place in range(2):  # both are taught by the weights from before the update
            tokens = sum((batches[place]["labels"] != -100).sum().item() for batches in samples)
            for batches in samples:
                batch = batches[place]
                targets = batch["labels"][batch["labels"] != -100]
                with torch.no_grad():
                    guide = logits_of(copies[1 - place], batch)
                loss = pareto_loss(logits_of(copies[place], batch), [guide], targets, alpha, 0.1) / tokens
                loss.backward()
                total += loss.item()
        for model, optimizer in zip(copies, optimizers, strict=True):
            clipped += torch.nn.utils.clip_grad_norm_(model.parameters(), limits).item() > limits
            optimizer.step()
            optimizer.zero_grad()
        expected.append(total)
    trainer.train()
    assert clipped == 8, "clipping must matter in this comparison"
    assert losses(trainer) == pytest.approx(expected, rel=1e-5)
    for model, reference in zip(models, copies, strict=True):
        for name, value in model.state_dict().items():
            if not name.endswith("k_proj.bias"):  # its gradient is rounding noise, which Adam scales up to whole steps
                torch.testing.assert_close(value, reference.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


def test_without_distillation_the_first_peer_is_a_plain_model(new_trainer, new_model, encoded, tokenizer, tmp_path):
    shared = {"max_steps": 5, "max_tokens": 400, "warmup_steps": 2, "eval_steps": 5, "disable_tqdm": True}
    plain = PlainTrainer(
        new_model(seed=1, dropout=0.2),
        PlainConfig(output_dir=str(tmp_path / "plain"), learning_rate=3e-3, **shared),
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        processing_class=tokenizer,
    )
    plain.train()
    peers = [new_model(seed=1, dropout=0.2), new_model(seed=2, dropout=0.2)]
    trainer = new_trainer(model=peers, distillation_weight=0.0, temperatures=[1.0, 3.0], **shared)
    trainer.train()
    assert_same([plain.model.main_model], peers[:1])
    metric = [line["eval_peer1_loss"] for line in trainer.state.log_history if "eval_loss" in line][-1]
    assert metric == [line["eval_loss"] for line in plain.state.log_history if "eval_loss" in line][-1]


def test_warm_up_without_distillation(new_trainer):
    trainer = new_trainer(warmup_without_kd=4, logging_steps=1)
    trainer.train()
    found = [line["peer1_alpha"] for line in trainer.state.log_history if "peer1_alpha" in line]
    assert found == pytest.approx([0, 0, 0, 0, 0.4, 0.4])


def test_best_checkpoints_of_every_peer_stay(new_trainer, monkeypatch):
    trainer = new_trainer(max_steps=6, eval_steps=1, save_total_limit=1)
    scripted = iter([(3.0, 3.0), (1.0, 2.9), (2.0, 2.0), (1.5, 2.4), (1.9, 2.5), (2.5, 2.6)])
    evaluate = trainer.evaluate

    def scripted_evaluate(*arguments, **keywords):
        first, second = next(scripted)
        log, replaced = trainer.log, {"eval_peer1_loss": first, "eval_peer2_loss": second, "eval_loss": (first + second) / 2}
        monkeypatch.setattr(trainer, "log", lambda logs, *rest: log({**logs, **replaced} if "eval_loss" in logs else logs))
        metrics = evaluate(*arguments, **keywords)
        monkeypatch.setattr(trainer, "log", log)
        return {**metrics, **replaced}

    seen = {}
    save = trainer._save_checkpoint

    def watched(*arguments):
        save(*arguments)
        seen[trainer.state.global_step] = [weights(model) for _, model in trainer.model.named_models()]

    monkeypatch.setattr(trainer, "evaluate", scripted_evaluate)
    monkeypatch.setattr(trainer, "_save_checkpoint", watched)
    trainer.train()
    kept = sorted(int(path.name.split("-")[1]) for path in trainer.checkpoint_folder.iterdir())
    assert kept == [2, 3, 6]
    assert (trainer.best_step(0), trainer.best_step(1)) == (2, 3)
    for peer, step in enumerate((2, 3)):
        for name, value in trainer.model.peers[peer].state_dict().items():
            assert torch.equal(value, seen[step][peer][name]), "each peer ends at its own best"


def test_bests_are_those_of_validations_between_updates(new_trainer, encoded):
    """Neither a validation before the first update nor one of other text by a callback is a best that a checkpoint holds."""

    class OtherText(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            trainer.evaluate({"fr-en": encoded["test"]["fr-en"]})

    trainer = new_trainer(callbacks=[OtherText()], eval_on_start=True, max_steps=4, eval_steps=2, save_total_limit=1)
    trainer.train()
    assert {trainer.best_step(peer) for peer in range(2)} <= {2, 4}
    by_step = {line["step"]: line for line in trainer.state.log_history if "eval_peer1_loss" in line}
    assert {0, 1, 2, 3, 4} <= set(by_step)


def test_what_was_best_outlives_a_stop(new_trainer):
    first = new_trainer(max_steps=4, eval_steps=1, save_total_limit=None)
    first.train()
    resumed = new_trainer(max_steps=4, eval_steps=1, save_total_limit=None)
    resumed.train(resume_from_checkpoint=str(first.checkpoint(2)))
    assert resumed.bests == first.bests
    assert all(best is not None for best in resumed.bests)


@pytest.mark.parametrize("strategy", ["bi", "uni", "auto"])
def test_resume_goes_on_where_it_stopped(new_trainer, new_model, strategy):
    fields = {
        "strategy": strategy,
        "max_steps": 8,
        "eval_steps": 2,
        "update_interval": 3,
        "trial_share": 0.03,
        "load_best_model_at_end": False,
        "save_total_limit": None,
    }
    peers = lambda: [new_model(seed=seed, dropout=0.2) for seed in (1, 2)]  # noqa: E731
    whole = new_trainer(model=peers(), **fields)
    whole.train()
    resumed = new_trainer(model=peers(), **fields)
    resumed.train(resume_from_checkpoint=str(whole.checkpoint(4)))
    assert losses(resumed)[-4:] == losses(whole)[-4:]
    assert_same(whole.model.peers, resumed.model.peers)
    assert resumed.rule.weights == whole.rule.weights
    assert [entry["update"] for entry in resumed.rule.history] == [entry["update"] for entry in whole.rule.history]


def test_every_peer_and_pair_has_its_own_weight_in_a_real_update(new_trainer, tmp_path):
    """With `fixed` weights that are all different: what is lost in an update is what they say, by the figures logged."""
    weights = [{"fr-en": 0.1, "bs-en": 0.3}, {"fr-en": 0.5, "bs-en": 0.8}]
    (tmp_path / "weights.json").write_text(json.dumps({"weights": weights}))
    trainer = new_trainer(
        strategy="fixed",
        weights_file=str(tmp_path / "weights.json"),
        label_smoothing_factor=0.0,
        eval_strategy="no",
        max_steps=8,
    )
    drawn = [
        [batch.pair for batch, _ in zip(stream.batches(SamplerState()), range(8), strict=False)]
        for stream in trainer.text.streams
    ]
    trainer.train()
    lines = [line for line in trainer.state.log_history if "peer1_nll" in line]
    assert {*drawn[0]} == {*drawn[1]} == {"fr-en", "bs-en"}
    for step, line in enumerate(lines):
        total = 0.0
        for peer in (0, 1):
            alpha = weights[peer][drawn[peer][step]]
            assert line[f"peer{peer + 1}_alpha"] == pytest.approx(alpha)
            total += (1 - alpha) * line[f"peer{peer + 1}_nll"] + alpha * line[f"peer{peer + 1}_kd"]
        assert line["loss"] == pytest.approx(total, rel=1e-4)


def test_peers_at_one_temperature_see_other_pairs_other_sentences_and_other_dropout(new_trainer):
    trainer = new_trainer(strategy="vanilla", temperatures=[1.0, 1.0])
    first, second = (
        [batch for batch, _ in zip(stream.batches(SamplerState()), range(60), strict=False)] for stream in trainer.text.streams
    )
    assert [batch.pair for batch in first] != [batch.pair for batch in second]
    for pair in ("fr-en", "bs-en"):
        rows = [next(list(batch.rows) for batch in drawn if batch.pair == pair) for drawn in (first, second)]
        assert rows[0] != rows[1], pair
    seeds = [seed for number in range(5) for seed in trainer.dropout_seeds(number)]
    assert len(set(seeds)) == 10
    again = new_trainer(strategy="vanilla", temperatures=[1.0, 1.0], seed=43)
    assert not set(seeds) & {seed for number in range(5) for seed in again.dropout_seeds(number)}


@pytest.mark.parametrize(
    ("fields", "expected", "decided"),
    [
        ({"update_interval": 2}, [0, 0, 0.4, 0.4, 0.4, 0.4], [0, 2]),
        ({"update_interval": 2, "warmup_without_kd": 2}, [0, 0, 0.4, 0.4, 0.4, 0.4], [0, 2]),
        ({"update_interval": 2, "warmup_without_kd": 3}, [0, 0, 0, 0, 0.4, 0.4], [0, 4]),
        ({"distill_at_once": True}, [0.4] * 6, [0]),
        ({"strategy": "vanilla", "temperatures": [1.0, 1.0], "update_interval": 3}, [0, 0, 0, 0.4, 0.4, 0.4], [0, 3]),
    ],
)
def test_both_directions_are_taught_from_the_first_decision_on(new_trainer, fields, expected, decided):
    trainer = new_trainer(**{"strategy": "bi", **fields})
    trainer.train()
    lines = [line for line in trainer.state.log_history if "peer1_alpha" in line]
    assert [line["peer1_alpha"] for line in lines] == pytest.approx(expected) == [line["peer2_alpha"] for line in lines]
    assert [entry["update"] for entry in trainer.rule.history] == decided


def test_nothing_is_decided_when_the_training_is_over(new_trainer):
    trainer = new_trainer(strategy="uni", update_interval=3, max_steps=6)
    trainer.train()
    assert [entry["update"] for entry in trainer.rule.history] == [0, 3]


def test_everything_is_logged_and_saved(new_trainer):
    trainer = new_trainer(strategy="auto", update_interval=2, trial_share=0.03)
    trainer.train()
    table = trainer.state.log_history[0]["sampling"]
    assert {(row["peer"], row["pair"]) for row in table} == {(peer, pair) for peer in (1, 2) for pair in ("fr-en", "bs-en")}
    training = [line for line in trainer.state.log_history if "peer1_nll" in line][-1]
    for peer in (1, 2):
        assert {f"peer{peer}_{name}" for name in ("nll", "kd", "alpha", "grad_norm")} <= set(training)
    validation = [line for line in trainer.state.log_history if "eval_loss" in line][-1]
    assert validation["eval_loss"] == pytest.approx((validation["eval_peer1_loss"] + validation["eval_peer2_loss"]) / 2)
    saved = json.loads((trainer.checkpoint(6) / "distillation_weights.json").read_text())
    assert saved["weights"] == trainer.rule.weights
    assert [entry["update"] for entry in saved["history"]] == [0, 2, 4]
    search = saved["history"][1]["searches"][0]
    assert set(search["losses"]) == {"increase", "keep", "decrease"}
    assert set(search["losses"]["keep"]) == {"fr-en", "bs-en"}
    assert {"trials", "validations", "copies"} == set(saved["history"][1]["seconds"])


def test_one_to_many_learns_by_tags(texts, tmp_path, new_model, tokenizer):
    """English into two languages: the tag tells the target, for the peers and in the finished models."""
    from hf_paretokd import LanguagePair, encode_split, translate
    from hf_paretokd.data.corpus import ParallelText
    from hf_paretokd.data.pairs import source_tags
    from hf_paretokd.data.tokenizer import train_tokenizer

    turned = {
        split: {
            LanguagePair("en", pair.source): ParallelText(LanguagePair("en", pair.source), split, text.targets, text.sources)
            for pair, text in texts[split].items()
        }
        for split in ("train", "validation")
    }
    tags = source_tags(list(turned["train"]), "needed")
    assert sorted(tags.values()) == [">>bs<< ", ">>fr<< "]
    tokenizer = train_tokenizer(turned["train"], tmp_path / "tokenizer", vocab_size=900, max_length=96)
    data = {split: encode_split(each, tokenizer) for split, each in turned.items()}
    first = data["train"]["en-fr"][0]["input_ids"][0]
    assert tokenizer.convert_ids_to_tokens(first) == ">>fr<<"
    from conftest import SMALL

    from hf_paretokd import ModelConfig, build_model

    peers = [
        build_model(ModelConfig(**{**SMALL, "encoder_layers": 1, "decoder_layers": 1}), tokenizer, seed) for seed in (1, 2)
    ]
    config = ParetoMutualConfig(
        output_dir=str(tmp_path / "run"),
        strategy="bi",
        distill_at_once=True,
        max_steps=4,
        max_tokens=400,
        eval_steps=4,
        warmup_steps=1,
        disable_tqdm=True,
    )
    trainer = ParetoMutualTrainer(
        peers, config, train_dataset=data["train"], eval_dataset=data["validation"], processing_class=tokenizer
    )
    trainer.train()
    assert {"eval_peer2_loss_en-fr", "eval_peer2_loss_en-bs"} <= set(trainer.evaluate())
    sources = turned["train"][LanguagePair("en", "bs")].sources[:2]
    assert len(translate(peers[0], tokenizer, [">>bs<< " + text for text in sources])) == 2


# ---- bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"temperatures": [1.0, 0.0]}, "temperatures: 0 is not positive"),
        ({"temperatures": [1.0]}, "two or more peers"),
        ({"distillation_weight": 1.2}, "distillation_weight"),
        ({"distillation_weight": -0.1}, "distillation_weight"),
        ({"strategy": "both"}, "one of uni, bi"),
        ({"trial_share": 0.0}, "trial_share"),
        ({"strategy": "auto", "trial_share": 1e-6, "update_interval": 2}, "trial set is empty"),
        ({"strategy": "uni", "update_interval": 6}, "update_interval: the first decision"),
        ({"strategy": "auto"}, "one epoch is"),
        ({"strategy": "uni", "update_interval": 2, "warmup_without_kd": 9}, "warmup_without_kd"),
        ({"strategy": "uni", "update_interval": 4, "warmup_without_kd": 5}, "would come after update 8"),
        ({"strategy": "vanilla", "temperatures": [1.0, 5.0]}, "same temperature"),
        ({"strategy": "lsmd"}, "weights_file"),
        ({"strategy": "auto_official", "temperatures": [1.0, 2.0, 3.0]}, "two peers"),
        ({"step_size": 0.0}, "step_size"),
        ({"update_interval": 0}, "update_interval"),
        ({"uni_tolerance": -1.0}, "uni_tolerance"),
    ],
)
def test_impossible_settings(new_trainer, fields, named):
    with pytest.raises(TrainingError, match=named):
        new_trainer(**fields)


def test_peers_must_fit_together(new_trainer, new_model, tokenizer, texts, tmp_path):
    from hf_paretokd import ModelConfig, build_model, train_tokenizer

    model = new_model()
    with pytest.raises(ModelError, match="1 peers for 2 temperatures"):
        new_trainer(model=[model])
    with pytest.raises(ModelError, match="same model"):
        new_trainer(model=[model, model])
    other = train_tokenizer(texts["train"], tmp_path / "other", vocab_size=700, target_tags="always", max_length=96)
    shape = {"d_model": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 96}
    with pytest.raises(ModelError, match="different vocabularies"):
        new_trainer(model=[model, build_model(ModelConfig(**shape), other, 1)])
    with pytest.raises(ModelError, match="different tokenizers"):
        new_trainer(model=[model, new_model(seed=2)], processing_class=[tokenizer, other])


def test_a_pair_without_validation_text_is_an_error(new_trainer, encoded):
    data = {"train": encoded["train"], "validation": {"fr-en": encoded["validation"]["fr-en"]}}
    with pytest.raises(DataError, match="bs-en: has training but no validation text"):
        new_trainer(data=data, strategy="uni", update_interval=2, eval_strategy="no")
    with pytest.raises(DataError, match="bs-en: has training but no validation text"):
        new_trainer(data=data, strategy="bi")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("weights: [{fr-en: 0.5, bs-en: 0.5}]", "2 mappings"),
        ("weights: [{fr-en: 0.5, bs-en: 0.5}, {fr-en: 0.5}]", "peer 2, pair bs-en"),
        ("weights: [{fr-en: 0.5, bs-en: 0.5}, {fr-en: 0.5, bs-en: 1.5}]", "1.5 is not a weight"),
        ("weights: [", "cannot be read"),
        ("[1, 2]", "2 mappings"),
    ],
)
def test_files_of_weights(new_trainer, tmp_path, text, named):
    path = tmp_path / "weights.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=named):
        new_trainer(strategy="fixed", weights_file=str(path))


def test_lsmd_takes_the_last_weights_of_an_automatic_run(new_trainer, tmp_path):
    first = new_trainer(strategy="auto", update_interval=2, trial_share=0.03)
    first.train()
    first.save_model()
    second = new_trainer(strategy="lsmd", weights_file=first.args.output_dir, folder="lsmd", max_steps=2, eval_steps=2)
    assert second.rule.weights == first.rule.weights
    second.train()
    second.save_model()
    with pytest.raises(RecipeError, match="strategy auto"):
        new_trainer(strategy="lsmd", weights_file=second.args.output_dir, folder="again")


def test_a_resumed_run_keeps_its_strategy_and_temperatures(new_trainer):
    trainer = new_trainer(max_steps=2, eval_steps=1)
    trainer.train()
    with pytest.raises(TrainingError, match="strategy"):
        new_trainer(strategy="uni", update_interval=3, max_steps=4).train(resume_from_checkpoint=True)
    with pytest.raises(TrainingError, match="τ = 5, now it would be 3"):
        new_trainer(temperatures=[1.0, 3.0], max_steps=4).train(resume_from_checkpoint=True)


def test_peers_go_to_repositories_of_their_own(new_trainer, tmp_path):
    trainer = new_trainer()
    uploads = list(trainer._uploads(trainer.uploaded(trainer.model), "anna/x", tmp_path))
    assert [upload.repository for upload in uploads] == ["anna/x-peer-1", "anna/x-peer-2"]
    for upload in uploads:
        assert (upload.folder / "model.safetensors").is_file()
        assert f'from_pretrained("{upload.repository}")' in upload.card
        assert "method:pareto_mutual|" in upload.card
