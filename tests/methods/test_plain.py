"""One model by itself: two views of the text and mixed text, against their equations by the model's own forward."""

import pytest
import torch
from reference import gradients, kl, smoothed_cross_entropy

from hf_paretokd import PlainConfig
from hf_paretokd.data.encoding import encode_split
from hf_paretokd.errors import TrainingError
from hf_paretokd.methods.consistency import unknown_word
from hf_paretokd.methods.plain import PlainModel
from hf_paretokd.models.mixing import Mixing

SEED = 11


def config(tmp_path, **fields):
    return PlainConfig(output_dir=str(tmp_path), label_smoothing_factor=0.1, **fields)


def doubled(batch):
    return {name: torch.cat([batch[name]] * 2) for name in ("input_ids", "attention_mask", "labels")}


def of_targets(logits, labels):
    return logits[labels != -100][:, :-1]


def r_drop(model, batch, alpha):
    """CE₁ + CE₂ + α·½·(KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)), two dropout masks in one batch."""
    torch.manual_seed(SEED)
    first, second = model(**doubled(batch)).logits.chunk(2)
    labels = batch["labels"]
    one, two, targets = of_targets(first, labels), of_targets(second, labels), labels[labels != -100]
    entropies = smoothed_cross_entropy(one, targets, 0.1) + smoothed_cross_entropy(two, targets, 0.1)
    return entropies + alpha * (kl(one, two) + kl(two, one)) / 2


def simcut(model, batch, alpha, rate):
    """CE(x, y) + α·KL(p(x, y) ‖ p(x_cut, y_cut)): embeddings of source and target prefix zero with a probability."""
    torch.manual_seed(SEED)
    labels = batch["labels"]
    half = len(labels)

    def cut(_module, _inputs, output):
        kept = torch.rand(2 * half, output.shape[1]) >= rate
        kept[:half] = True
        return output * kept[..., None]

    tables = {model.get_encoder().embed_tokens, model.get_decoder().embed_tokens}
    handles = [table.register_forward_hook(cut) for table in tables]
    whole, cut_off = (of_targets(each, labels) for each in model(**doubled(batch)).logits.chunk(2))
    for handle in handles:
        handle.remove()
    return smoothed_cross_entropy(whole, labels[labels != -100], 0.1) + alpha * kl(whole, cut_off)


def cutoff(model, batch, alpha, rate, unknown, special):
    """CE₁ + CE₂ + α·½·(KL(m ‖ p₁) + KL(m ‖ p₂)): ids of the second view are `<unk>`, and m is of the mean logits."""
    torch.manual_seed(SEED)
    labels, half = batch["labels"], len(batch["labels"])
    sides = doubled(batch)
    sides["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=sides.pop("labels"))
    for name in ("input_ids", "decoder_input_ids"):
        gone = torch.rand(sides[name].shape) < rate
        gone[:half] = False
        gone &= ~torch.isin(sides[name], torch.tensor(special))
        assert gone[half:].any()
        sides[name] = sides[name].masked_fill(gone, unknown)
    first, second = (of_targets(each, labels) for each in model(**sides).logits.chunk(2))
    targets = labels[labels != -100]
    entropies = smoothed_cross_entropy(first, targets, 0.1) + smoothed_cross_entropy(second, targets, 0.1)
    middle = (first + second) / 2
    return entropies + alpha * (kl(middle, first) + kl(middle, second)) / 2


def assert_equal(model, found, expected, tokens):
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, theirs = gradients(found / tokens, model), gradients(expected / tokens, model)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("alpha", [None, 0.7])
def test_r_drop(new_model, batch, tmp_path, alpha):
    model = new_model(dropout=0.3).train()
    joint = PlainModel(model, config(tmp_path, consistency="r_drop", consistency_weight=alpha)).train()
    found = joint([batch], [SEED])
    tokens = (batch["labels"] != -100).sum()
    assert_equal(model, found["losses"].sum(), r_drop(model, batch, 5.0 if alpha is None else alpha), tokens)
    assert found["logs"]["loss_consistency"][0] > 0


@pytest.mark.parametrize(("alpha", "rate"), [(None, 0.05), (0.7, 0.3)])
def test_simcut(new_model, batch, tmp_path, alpha, rate):
    model = new_model().train()
    joint = PlainModel(model, config(tmp_path, consistency="simcut", consistency_weight=alpha, cut_rate=rate)).train()
    found = joint([batch], [SEED])
    tokens = (batch["labels"] != -100).sum()
    assert_equal(model, found["losses"].sum(), simcut(model, batch, 3.0 if alpha is None else alpha, rate), tokens)


@pytest.mark.parametrize(("alpha", "rate"), [(None, 0.3), (0.7, 1.0)])
def test_cutoff(new_model, batch, tokenizer, tmp_path, alpha, rate):
    model = new_model().train()
    joint = PlainModel(model, config(tmp_path, consistency="cutoff", consistency_weight=alpha, cut_rate=rate)).train()
    filler = unknown_word(tokenizer)
    assert {tokenizer.eos_token_id, tokenizer.pad_token_id} <= set(filler.spared)
    joint.second.settle(tokenizer)
    found = joint([batch], [SEED])
    expected = cutoff(model, batch, 5.0 if alpha is None else alpha, rate, filler.entry, filler.spared)
    assert_equal(model, found["losses"].sum(), expected, (batch["labels"] != -100).sum())


def ciphered(batch):
    """The batch with other sources, as those in cipher are: of other lengths."""
    ids = (batch["input_ids"][:, 1:] * 7 + 5) % 400 + 10
    ids[1, -2:] = 0
    return {**batch, "cipher_input_ids": ids, "cipher_attention_mask": (ids != 0).long()}


def cipher(model, batch, alpha):
    """CE(x, y) + CE(x_cipher, y) + α·½·(KL(p ‖ p_cipher) + KL(p_cipher ‖ p))."""
    labels = batch["labels"]
    views = ("", "cipher_")
    one, two = (
        of_targets(model(batch[f"{view}input_ids"], batch[f"{view}attention_mask"], labels=labels).logits, labels)
        for view in views
    )
    targets = labels[labels != -100]
    entropies = smoothed_cross_entropy(one, targets, 0.1) + smoothed_cross_entropy(two, targets, 0.1)
    return entropies + alpha * (kl(one, two) + kl(two, one)) / 2


@pytest.mark.parametrize("alpha", [None, 0.7])
def test_cipher(new_model, batch, tmp_path, alpha):
    model, batch = new_model().train(), ciphered(batch)
    joint = PlainModel(model, config(tmp_path, consistency="cipher", consistency_weight=alpha)).train()
    found = joint([batch], [SEED])
    tokens = (batch["labels"] != -100).sum()
    assert_equal(model, found["losses"].sum(), cipher(model, batch, 5.0 if alpha is None else alpha), tokens)
    before = joint([batch], [SEED], consistency_weight=0.0)
    assert_equal(model, before["losses"].sum(), cipher(model, batch, 0.0), tokens)


def test_the_divergence_of_ciphers_by_hand():
    one, two = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0]])
    assert ((kl(one, two) + kl(two, one)) / 2).item() == pytest.approx(0.2876051, abs=1e-6)


def test_the_divergence_begins_after_so_many_updates(tmp_path):
    for fields, expected in (
        ({"consistency": "cipher"}, {0: 0.0, 499: 0.0, 500: 5.0}),
        ({"consistency": "cipher", "consistency_start": 3, "consistency_weight": 2.0}, {2: 0.0, 3: 2.0}),
        ({"consistency": "r_drop"}, {0: 5.0}),
        ({"consistency": "simcut", "consistency_start": 2}, {1: 0.0, 2: 3.0}),
    ):
        found = config(tmp_path, **fields)
        assert {step: found.alpha_after(step) for step in expected} == expected


def text_for_ciphers(texts, tokenizer):
    return {"processing_class": tokenizer, "data": {split: encode_split(pairs, tokenizer) for split, pairs in texts.items()}}


@pytest.mark.parametrize("method", ["plain", "all_in_one"])
def test_trainings_on_text_in_cipher(new_trainer, new_model, texts, ciphered_tokenizer, method):
    """The divergence counts from its update on; a training that was cut off goes on to the same end."""
    fields = {"consistency": "cipher", "consistency_start": 3, "save_steps": 3, **text_for_ciphers(texts, ciphered_tokenizer)}
    fields |= {"mutual_start": 0.0} if method == "all_in_one" else {}

    def trainer(folder, **more):
        model = new_model(known=ciphered_tokenizer, dropout=0.1)
        return new_trainer(method, folder=folder, model=model, **fields, **more)

    whole, plain = trainer("whole"), trainer("plain", consistency_weight=0.0)
    whole.train()
    plain.train()
    lines = [[line for line in each.state.log_history if "loss_consistency" in line] for each in (whole, plain)]
    assert [one["loss"] == two["loss"] for one, two in zip(*lines, strict=True)] == [True] * 3 + [False] * 3
    assert lines[0][0]["loss_consistency"] > 0
    assert "consistency:cipher" in whole.signature()
    assert whole.summed_losses == (6 if method == "all_in_one" else 2)
    resumed = trainer("resumed", dataloader_num_workers=1)
    resumed.train(resume_from_checkpoint=str(whole.checkpoint(3)))
    for name, value in whole.model.main_model.state_dict().items():
        assert torch.equal(resumed.model.main_model.state_dict()[name], value), name


def test_ciphers_need_a_tokenizer_that_was_made_for_them(new_trainer):
    with pytest.raises(TrainingError, match="consistency: cipher needs a tokenizer that was made for ciphers"):
        new_trainer(consistency="cipher")


def seqmix(model, batch, parameter):
    """λ·CE(y) + (1−λ)·CE(y′) of mixed embeddings, which are what goes into the layers where there is no dropout."""
    torch.manual_seed(SEED)
    labels = batch["labels"]
    rows = len(labels)
    kept = torch.distributions.Beta(parameter, parameter).sample((rows,))
    kept, partners = torch.maximum(kept, 1 - kept), torch.randperm(rows)
    assert (partners != torch.arange(rows)).any()

    def mixed(stack, ids, scale=1.0):  # the decoder scales what it is given, the encoder does not
        embedded = stack.embed_tokens(ids) * scale
        return kept[:, None, None] * embedded + (1 - kept[:, None, None]) * embedded[partners]

    decoder_ids = model.prepare_decoder_input_ids_from_labels(labels=labels)
    logits = model(
        inputs_embeds=mixed(model.get_encoder(), batch["input_ids"], model.get_encoder().embed_scale),
        attention_mask=batch["attention_mask"],
        decoder_inputs_embeds=mixed(model.get_decoder(), decoder_ids),
    ).logits[..., :-1]
    total = 0.0
    for row, partner in enumerate(partners.tolist()):
        for place in range(labels.shape[1]):
            if labels[row, place] == -100:
                continue
            one = logits[row, place : place + 1]
            total = total + kept[row] * smoothed_cross_entropy(one, labels[row, place : place + 1], 0.1)
            if labels[partner, place] != -100:
                total = total + (1 - kept[row]) * smoothed_cross_entropy(one, labels[partner, place : place + 1], 0.1)
    return total


def test_seqmix(new_model, batch, tmp_path):
    model = new_model().train()
    joint = PlainModel(model, config(tmp_path, seqmix=0.8)).train()
    found = joint([batch], [SEED])
    assert_equal(model, found["losses"].sum(), seqmix(model, batch, 0.8), (batch["labels"] != -100).sum())


def test_mixing_is_of_what_has_had_its_dropout_in_every_copy():
    mixing = Mixing(torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
    states = torch.tensor([1.0, 5.0, 0.0, 8.0])[:, None, None].expand(4, 2, 3)  # two copies of two rows
    assert mixing.mixed(states)[:, 0, 0].tolist() == [2.0, 5.0, 2.0, 8.0]


def test_a_partner_that_is_shorter_ends_earlier():
    mixing = Mixing(torch.tensor([1, 0]), torch.tensor([0.75, 0.6]))
    found = mixing.targets(torch.tensor([[5, 6, 7], [8, 9, -100]]))
    assert found.targets.tolist() == [8, 9, 0, 5, 6]
    assert found.first.tolist() == pytest.approx([0.75] * 3 + [0.6] * 2)
    assert found.second.tolist() == pytest.approx([0.25, 0.25, 0.0, 0.4, 0.4])


def test_cutoff_needs_an_unknown_word(new_trainer):
    with pytest.raises(TrainingError, match="consistency: cutoff needs a tokenizer"):
        new_trainer(consistency="cutoff", processing_class=None)


def test_mixed_text_trains_and_is_validated_as_it_is(new_trainer):
    trainer = new_trainer(seqmix=0.4, consistency="r_drop", learning_rate=1e-3)
    trainer.train()
    assert "|seqmix:0.4|" in trainer.signature()
    assert trainer.evaluate()["eval_loss"] < 8


@pytest.mark.parametrize("consistency", ["r_drop", "simcut", "cutoff"])
def test_trainings_with_two_views(new_trainer, consistency):
    trainer = new_trainer(consistency=consistency, learning_rate=1e-3)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss_consistency" in line]
    assert len(lines) == 6
    assert trainer.summed_losses == (1 if consistency == "simcut" else 2)
    assert f"consistency:{consistency}" in trainer.signature()
    assert trainer.evaluate()["eval_loss"] < 8


def test_no_weight_is_plain_training(new_trainer):
    found = []
    for number, fields in enumerate(({}, {"consistency": "simcut", "consistency_weight": 0.0})):
        trainer = new_trainer(folder=f"{number}", **fields)
        trainer.train()
        found.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seqmix": -1.0}, "seqmix: -1.0 is out of range"),
        ({"seqmix": 0.1, "gradient_checkpointing": True}, "seqmix: activation checkpointing would compute layers again"),
        ({"consistency": "rdrop"}, "consistency: 'rdrop' is not one of none, r_drop, simcut, cutoff, cipher"),
        ({"consistency_weight": 1.0}, "consistency_weight: is for r_drop, simcut, cutoff, cipher; set consistency"),
        ({"consistency_start": 2}, "consistency_start: is for r_drop, simcut, cutoff, cipher; set consistency"),
        ({"consistency": "r_drop", "consistency_start": -1}, "consistency_start: -1 is out of range"),
        ({"consistency": "r_drop", "consistency_weight": -1.0}, "consistency_weight: -1.0 is out of range"),
        ({"consistency": "simcut", "cut_rate": 1.5}, "cut_rate: 1.5 is out of range"),
        ({"consistency": "r_drop", "cut_rate": 0.1}, "cut_rate: is for simcut"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, fields, message):
    with pytest.raises(TrainingError, match=message):
        config(tmp_path, **fields)
