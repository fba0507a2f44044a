import json
import math

import datasets
import pytest
import torch

from hf_paretokd import PlainConfig, PlainTrainer
from hf_paretokd.data.sampling import SamplerState
from hf_paretokd.errors import DataError, ModelError, TrainingError
from hf_paretokd.models.files import load_model, save_model
from hf_paretokd.training.callbacks import COUNTED
from hf_paretokd.training.text import TrainingText


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.main_model.state_dict().items()}


def training_losses(trainer):
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize("method", ["plain", "all_in_one"])
def test_it_learns_and_the_pad_row_stays_zero(new_trainer, new_model, method):
    fields = {"mutual_start": 0.0} if method == "all_in_one" else {}
    trainer = new_trainer(method, new_model(dropout=0.1), max_steps=30, weight_decay=0.1, eval_steps=30, **fields)
    trainer.train()
    losses = training_losses(trainer)
    assert losses[-1] < 0.8 * losses[0]
    model = trainer.model.main_model
    assert not model.get_input_embeddings().weight[-1].any()
    assert not model.lm_head.weight[-1].any()


def test_the_update_divides_by_all_its_target_tokens(new_trainer, new_model, encoded):
    """Two accumulated micro-batches give the gradient of their concatenation, not a mean of means."""
    model = new_model()
    trainer = new_trainer(
        model=model, max_steps=1, gradient_accumulation_steps=2, label_smoothing_factor=0.0, max_grad_norm=0.0
    )
    batches = iter(trainer.get_train_dataloader())
    total, tokens = 0.0, 0
    for _ in range(2):
        (batch,) = next(batches)["batches"]
        batch.pop("pair")
        logits = model(**batch).logits[..., :-1]
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum").item()
        tokens += (batch["labels"] != -100).sum().item()
    trainer.train()
    assert training_losses(trainer)[0] == pytest.approx(total / tokens, rel=1e-5)


def test_accumulation_equals_other_splits_of_the_same_update(new_trainer, new_model):
    """Dropout is a function of the micro-batch number, so a second run is the same run."""
    runs = []
    for _ in range(2):
        trainer = new_trainer(model=new_model(dropout=0.3), gradient_accumulation_steps=2)
        torch.manual_seed(torch.seed() % 1000)  # what came before does not matter
        trainer.train()
        runs.append((training_losses(trainer), weights(trainer)))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(value, runs[1][1][name]) for name, value in runs[0][1].items())


@pytest.mark.parametrize("method", ["plain", "all_in_one"])
def test_resume_goes_on_where_it_stopped(new_trainer, new_model, method, monkeypatch):
    fields = {"max_steps": 8, "eval_steps": 2, "load_best_model_at_end": False}
    whole = new_trainer(method, new_model(dropout=0.2), **fields)
    whole.train()
    expected, losses = weights(whole), training_losses(whole)

    class PowerCut(Exception):
        pass

    cut = new_trainer(method, new_model(dropout=0.2), output_dir=whole.args.output_dir + "-cut", **fields)
    compute = cut.compute_loss

    def stopping(*arguments, **keywords):
        if cut.state.global_step == 5:
            raise PowerCut
        return compute(*arguments, **keywords)

    monkeypatch.setattr(cut, "compute_loss", stopping)
    with pytest.raises(PowerCut):
        cut.train()
    resumed = new_trainer(method, new_model(seed=99, dropout=0.2), output_dir=cut.args.output_dir, **fields)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 8
    assert training_losses(resumed)[-4:] == losses[-4:]
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in expected.items())
    took = resumed.seconds_trained
    assert took > resumed.state.log_history[-1]["seconds"] - 0.06 > 0, "logged with one decimal"
    assert resumed.seconds_trained == took, "the clock stops with the training"
    finished = new_trainer(method, new_model(seed=98, dropout=0.2), output_dir=cut.args.output_dir, **fields)
    finished.train(resume_from_checkpoint=True)
    assert finished.state.global_step == 8, "a finished training is not trained further"
    assert all(torch.equal(value, weights(finished)[name]) for name, value in expected.items())


def test_the_best_checkpoint_is_kept_and_loaded(new_trainer, monkeypatch):
    trainer = new_trainer(max_steps=8, eval_steps=2)
    values = iter([3.0, 2.0, 4.0, 5.0])
    real = trainer.evaluate
    monkeypatch.setattr(trainer, "evaluate", lambda **kwargs: {**real(**kwargs), "eval_loss": next(values)})
    trainer.train()
    kept = sorted(path.name for path in trainer.checkpoint_folder.iterdir())
    assert kept == ["checkpoint-4", "checkpoint-8"]
    assert trainer.state.best_global_step == 4
    from safetensors.torch import load_file

    best = load_file(trainer.checkpoint_folder / "checkpoint-4" / "model" / "model.safetensors")
    assert torch.equal(trainer.model.main_model.model.shared.weight, best["model.shared.weight"])


def test_saved_models_are_plain(new_trainer, tmp_path):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    trainer = new_trainer(max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "out"))
    files = {path.name for path in (tmp_path / "out" / "model").iterdir()}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out" / "model")
    assert type(loaded).__name__ == "MarianMTModel"
    assert loaded.config.use_cache
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out" / "model")) == loaded.config.vocab_size


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("plain", {}),
        ("plain", {"consistency": "r_drop"}),
        ("plain", {"consistency": "simcut"}),
        ("all_in_one", {}),
        ("all_in_one", {"views": "two", "ema_decay": 0.9}),
        ("pareto_mutual", {}),
        ("pareto_all_in_one", {"temperatures": [1.0, 5.0]}),
        ("lssd", {"update_interval": 1, "gate": "soft"}),
        ("word_kd", {"selection": "batch"}),
    ],
    ids=str,
)
def test_bf16_trains_on_the_cpu_in_all_methods(new_trainer, new_model, tokenizer, tmp_path, method, fields):
    if method == "word_kd":
        save_model(new_model(seed=9), tokenizer, tmp_path / "teacher")
        fields = {**fields, "teachers": [str(tmp_path / "teacher")]}
    exact, low = (new_trainer(method, bf16=bf16, folder=str(bf16), max_steps=3, **fields) for bf16 in (False, True))
    exact.train()
    low.train()
    assert low.model.main_model.dtype == torch.float32, "weights and Adam stay in float32"
    assert training_losses(low) != training_losses(exact)
    assert training_losses(low)[0] == pytest.approx(training_losses(exact)[0], rel=0.02)


def test_epochs_become_updates(new_trainer):
    trainer = new_trainer(max_steps=-1, num_train_epochs=2)
    assert trainer.args.max_steps == math.ceil(2 * sum(map(len, trainer.text.streams[0].pairs.values())))


def test_loader_workers_change_nothing(new_trainer):
    batches = []
    for workers in (0, 2):
        loader = iter(new_trainer(dataloader_num_workers=workers).get_train_dataloader())
        batches.append([next(loader) for _ in range(5)])
        del loader
    for alone, parallel in zip(*batches, strict=True):
        assert alone["number"] == parallel["number"]
        assert torch.equal(alone["batches"][0]["labels"], parallel["batches"][0]["labels"])


def test_waiting_for_micro_batches_is_logged(new_trainer, monkeypatch):
    import time

    trainer = new_trainer(max_steps=3)
    fetch = trainer.get_batch_samples
    slow = lambda iterator, *rest: fetch((time.sleep(0.3) or each for each in iterator), *rest)  # noqa: E731
    monkeypatch.setattr(trainer, "get_batch_samples", slow)
    trainer.train()
    shares = [line["loader_wait"] for line in trainer.state.log_history if "loader_wait" in line]
    assert len(shares) == 3
    assert all(0.4 < share < 1 for share in shares)


def test_speeds_are_of_sentence_pairs_and_tokens(new_trainer):
    trainer = new_trainer(max_steps=4, eval_steps=2, gradient_accumulation_steps=2)
    batches = iter(trainer.get_train_dataloader())
    seen = [next(batches)["batches"][0] for _ in range(8)]
    expected = [sum(len(each["labels"]) for each in seen), sum(int(each["attention_mask"].sum()) for each in seen)]
    expected.append(sum(int((each["labels"] != -100).sum()) for each in seen))
    output = trainer.train()
    assert trainer._clock.counts == expected
    lines = [line for line in trainer.state.log_history if "pairs_per_second" in line]
    assert len(lines) == 5, "every log line and the end"
    for name, total in zip(COUNTED, expected, strict=True):
        assert lines[-1][name] == pytest.approx(total / trainer.seconds_trained, rel=0.2)
    for name in ("train_samples_per_second", "train_steps_per_second", "total_flos"):
        assert not any(name in line for line in trainer.state.log_history)
        assert name not in output.metrics
    resumed = new_trainer(max_steps=4, eval_steps=2, gradient_accumulation_steps=2)
    resumed.train(resume_from_checkpoint=str(trainer.checkpoint(2)))
    assert resumed._clock.counts == expected, "over all parts of a resumed training"


def test_processor_time_is_of_all_parts_and_all_threads(new_trainer, monkeypatch):
    import time

    spent = iter(range(0, 10**6, 7))  # seven seconds of the processor between any two looks
    monkeypatch.setattr(time, "process_time", lambda: next(spent))
    trainer = new_trainer(max_steps=4, eval_steps=2)
    trainer.train()
    (end,) = [line["core_seconds"] for line in trainer.state.log_history if "core_seconds" in line]
    kept = json.loads((trainer.checkpoint(2) / "progress.json").read_text())["clock"]["processor_seconds"]
    assert (kept, end) == (7, 21), "begin, first checkpoint, second, end"
    resumed = new_trainer(max_steps=4, eval_steps=2)
    resumed.train(resume_from_checkpoint=str(trainer.checkpoint(2)))
    (end,) = [line["core_seconds"] for line in resumed.state.log_history[-1:]]
    assert end == kept + 14
    assert resumed._clock.processor_seconds == kept + 21, "and nothing once it has ended"
    assert resumed._clock.processor_seconds == kept + 21


def test_freed_memory_is_kept_where_the_c_library_can():
    import platform

    from hf_paretokd.utils.allocator import keep_freed_memory

    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")


# ---- bad input ------------------------------------------------------------------------------------------------------------


def test_nan_ends_the_training_with_the_update_named(new_trainer, new_model):
    model = new_model()
    with torch.no_grad():
        model.model.decoder.layers[0].fc1.weight[0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"update 1: the loss is nan; lower learning_rate"):
        new_trainer(model=model).train()


def test_sentences_beyond_the_position_table_are_refused(new_trainer, new_model):
    with pytest.raises(DataError, match="position table only 8"):
        new_trainer(model=new_model(max_position_embeddings=8))


def test_data_must_fit(new_model, encoded, tokenizer, tmp_path):
    def build(data, **fields):
        return PlainTrainer(
            new_model(),
            PlainConfig(output_dir=str(tmp_path), max_steps=1, eval_strategy="no", **fields),
            train_dataset=data,
            processing_class=tokenizer,
        )

    pair = encoded["train"]["fr-en"]
    assert list(build(pair).train_pairs) == ["corpus"]
    with pytest.raises(DataError, match="'labels' is missing"):
        build(pair.remove_columns("labels"))
    with pytest.raises(DataError, match="has no rows"):
        build(pair.select([]))
    with pytest.raises(DataError, match="max_tokens"):
        build(pair, max_tokens=8)
    with pytest.raises(DataError, match="train_dataset"):
        build(None).train()
    with pytest.raises(DataError, match="eval_dataset"):
        build(pair).evaluate()


def test_checkpoints_of_other_models_are_refused(new_trainer, new_model):
    trainer = new_trainer(max_steps=3)
    trainer.train()
    other = new_trainer(model=new_model(d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16), max_steps=3)
    with pytest.raises(TrainingError, match="another training: d_model was 32, now 16; encoder_ffn_dim was 48, now 16"):
        other.train(resume_from_checkpoint=True)
    with pytest.raises(ModelError, match="no-such-folder: not a whole checkpoint"):
        new_trainer(max_steps=9).train(resume_from_checkpoint="no-such-folder")


def test_epoch_strategies_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="no end"):
        PlainConfig(output_dir=str(tmp_path), logging_strategy="epoch")


def test_a_resumed_run_keeps_its_micro_batches_per_update(new_trainer):
    new_trainer(max_steps=3, gradient_accumulation_steps=2).train()
    with pytest.raises(TrainingError, match="took 2 micro-batches each, now they would take 1"):
        new_trainer(max_steps=6).train(resume_from_checkpoint=True)


# ---- a sampler of one's own, as CONTRIBUTING describes it


class Alternating:
    """Every pair in its turn."""

    def __init__(self, sizes):
        self.pairs = list(sizes)

    def probabilities(self, state):
        drawn = [state.draws.get(pair, 0) for pair in self.pairs]
        turn = drawn.index(min(drawn))
        return {pair: float(place == turn) for place, pair in enumerate(self.pairs)}

    def state_dict(self):
        return {"pairs": self.pairs}

    def load_state_dict(self, state):
        if state["pairs"] != self.pairs:
            raise TrainingError("pairs: the checkpoint was sampled from others")


class AlternatingText(TrainingText):
    def distribution(self, peer, batches):
        return Alternating(list(batches))


class AlternatingTrainer(PlainTrainer):
    text_class = AlternatingText


def test_a_sampler_of_ones_own(new_model, encoded, tokenizer, tmp_path):
    def build(**fields):
        common = {"max_steps": 4, "max_tokens": 400, "warmup_steps": 1, "eval_steps": 2, "disable_tqdm": True}
        config = PlainConfig(output_dir=str(tmp_path), **{**common, **fields})
        data = {"train_dataset": encoded["train"], "eval_dataset": encoded["validation"], "processing_class": tokenizer}
        return AlternatingTrainer(new_model(), config, **data)

    trainer = build()
    batches = iter(trainer.get_train_dataloader())
    assert [next(batches)["batches"][0]["pair"] for _ in range(4)] == ["fr-en", "bs-en", "fr-en", "bs-en"]
    trainer.train()
    assert [row["probability"] for row in trainer.state.log_history[0]["sampling"]] == [1.0, 0.0]
    resumed = build()
    resumed.train(resume_from_checkpoint=True, extend=1)
    assert resumed.text.states[0].draws == {"fr-en": 3, "bs-en": 2}


# ---- UniMax


def test_unimax_is_as_even_as_can_be(new_trainer, encoded):
    """Expected target tokens of the smaller pair: N times its text, or half of all where that is less."""
    small = {**encoded["train"], "bs-en": encoded["train"]["bs-en"].select(range(60))}
    tokens = {name: sum(map(len, each["labels"])) for name, each in small.items()}
    for epochs in (1.0, 3.0, 1000.0):
        trainer = new_trainer(data={"train": small, "validation": encoded["validation"]}, max_steps=80, unimax_epochs=[epochs])
        rows = {row.pair: row for row in trainer.text.expected(trainer.args.max_steps)}
        seen = {name: row.passes * tokens[name] for name, row in rows.items()}
        assert rows["bs-en"].passes <= epochs * 1.2, "but for batches that are not the mean of all"
        if epochs == 1000:
            assert seen["bs-en"] == pytest.approx(seen["fr-en"], rel=1e-6)
    assert "|unimax_epochs:1000|" in trainer.signature()


def test_peers_sample_each_by_its_own_rule(new_trainer):
    trainer = new_trainer("pareto_mutual", temperatures=[1.0, 1.0], unimax_epochs=[0, 2.0], max_steps=20)
    first, second = (stream.distribution for stream in trainer.text.streams)
    assert [type(each).__name__ for each in (first, second)] == ["TemperatureSampling", "UniMaxSampling"]
    assert trainer.args.sampling_names() == ["τ = 1", "UniMax 2"]


def test_a_training_made_longer_keeps_its_probabilities(new_trainer):
    fields = {"unimax_epochs": [0.5], "max_steps": 20, "eval_steps": 10, "logging_steps": 10}
    first = new_trainer(**fields)
    first.train()
    before = dict(first.text.streams[0].distribution.probabilities(None))
    longer = new_trainer(**fields)
    longer.train(resume_from_checkpoint=True, extend=10)
    assert longer.text.streams[0].distribution.probabilities(None) == before
    again = new_trainer(**{**fields, "max_steps": 30})  # as its recipe says by now
    assert again.text.streams[0].distribution.probabilities(None) != before
    again.train(resume_from_checkpoint=True)
    assert again.text.streams[0].distribution.probabilities(None) == before
    for other, message in (({"unimax_epochs": [0.7]}, "unimax_epochs"), ({"unimax_epochs": None}, "unimax_epochs")):
        with pytest.raises(TrainingError, match=message):
            new_trainer(**{**fields, **other}).train(resume_from_checkpoint=True)


# ---- models by their names, students on disk


@pytest.mark.parametrize("method", ["plain", "all_in_one", "pareto_mutual"])
def test_models_may_be_named_by_their_folders(new_trainer, new_model, tokenizer, tmp_path, method):
    """As in TRL: the tokenizer is loaded with the model, if none is given."""
    for seed in (1, 2):
        save_model(new_model(seed=seed), tokenizer, tmp_path / str(seed))
    names = [str(tmp_path / "1"), tmp_path / "2"] if method == "pareto_mutual" else str(tmp_path / "1")
    fields = {"mutual_start": 0.0} if method == "all_in_one" else {}
    trainer = new_trainer(method, names, processing_class=None, max_steps=1, **fields)
    assert trainer.processing_class.get_vocab() == tokenizer.get_vocab()
    trainer.train()
    trainer.save_model(str(tmp_path / "out"))
    for member, _ in trainer.model.members():
        assert (tmp_path / "out" / member.folder / "source.spm").is_file()
    with pytest.raises(ModelError, match="nowhere: no usable checkpoint"):
        new_trainer(method, [str(tmp_path / "nowhere")] * 2 if method == "pareto_mutual" else str(tmp_path / "nowhere"))


def test_students_of_a_trainer_are_plain_checkpoints_with_cards(new_trainer, tmp_path):
    lone, peers = new_trainer("all_in_one", mutual_start=0.0), new_trainer("pareto_mutual")
    assert lone.save_students(["3-2", "2-2"], tmp_path / "lone") == [tmp_path / "lone" / depth for depth in ("3-2", "2-2")]
    card = (tmp_path / "lone" / "2-2" / "README.md").read_text()
    assert "All-in-One knowledge distillation" in card
    assert "translates fr-en, bs-en" in card
    with pytest.raises(ModelError, match="exists already"):
        lone.save_students(["2-2"], tmp_path / "lone")
    written = peers.save_students(["2-2"], tmp_path / "peers")
    assert written == [tmp_path / "peers" / "peers" / peer / "students" / "2-2" for peer in "12"], "two different students 2-2"
    first, second = (load_model(folder).state_dict() for folder in written)
    assert not torch.equal(first["model.shared.weight"], second["model.shared.weight"])


def test_training_prints_nothing_but_the_trainers_own_lines(new_trainer, capsys):
    new_trainer(max_steps=2, eval_steps=1, log_level="error").train()
    printed = capsys.readouterr().out.splitlines()
    assert printed
    assert all(line.startswith("{'") for line in printed), "one dictionary a line, as transformers prints its log"


@pytest.mark.parametrize(("method", "summed"), [("plain", 1), ("all_in_one", 3), ("pareto_mutual", 1)])
def test_the_gradient_is_cut_at_the_limit_of_the_mean_over_models(new_trainer, method, summed):
    """By plain steps of size one, whose length is that of the gradient."""

    def step(limit):
        fields = {"optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "warmup_steps": 0, "max_steps": 1}
        stages = {"mutual_start": 0.0} if method == "all_in_one" else {}
        trainer = new_trainer(method, folder=f"{limit}", max_grad_norm=limit, eval_strategy="no", **fields, **stages)
        before = [weights_of(model) for _, model in trainer.model.named_models()]
        trainer.train()
        after = [weights_of(model) for _, model in trainer.model.named_models()]
        (line,) = (line for line in trainer.state.log_history if "grad_norm" in line)
        return [old - new for old, new in zip(before, after, strict=True)], line

    free, log = step(0)
    peers = [f"peer{peer}_" for peer in range(1, len(free) + 1)] if len(free) > 1 else [""]
    for gradient, prefix in zip(free, peers, strict=True):
        assert log[f"{prefix}grad_norm"] == pytest.approx(gradient.norm().item() / summed, rel=1e-4)
        assert log[f"{prefix}clipped"] == 0
    cut, log = step(0.1)
    for gradient, whole, prefix in zip(cut, free, peers, strict=True):
        torch.testing.assert_close(gradient, whole * 0.1 * summed / whole.norm(), rtol=1e-3, atol=1e-6)
        assert log[f"{prefix}clipped"] == 1


def weights_of(model):
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])


def test_pairs_are_drawn_by_their_sentences(new_trainer, encoded):
    """However long these are, and so however many micro-batches they fill."""
    train = encoded["train"]
    lengths = [len(ids) for ids in train["fr-en"]["input_ids"]]
    ranked = sorted(range(len(lengths)), key=lengths.__getitem__)
    uneven = datasets.DatasetDict({"fr-en": train["fr-en"].select(ranked[-200:]), "bs-en": train["bs-en"].select(range(200))})
    trainer = new_trainer(data={"train": uneven, "validation": encoded["validation"]}, temperatures=[2.0])
    batches = {name: len(each) for name, each in trainer.text.streams[0].pairs.items()}
    assert batches["fr-en"] > batches["bs-en"]
    probabilities = trainer.text.streams[0].distribution.probabilities(SamplerState())
    assert probabilities == pytest.approx({"fr-en": 0.5, "bs-en": 0.5})
    assert trainer.text.updates_per_pass == sum(batches.values())


def test_epochs_are_passes(new_trainer):
    trainer = new_trainer(max_steps=-1, num_train_epochs=0.5, gradient_accumulation_steps=2)
    batches = sum(len(each) for each in trainer.text.streams[0].pairs.values())
    assert trainer.args.max_steps == math.ceil(0.5 * batches / 2)
