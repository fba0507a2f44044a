"""Every argument and parameter of the stock trainer is honoured, refused with a reason, or said to mean nothing."""

import copy
import dataclasses
import inspect
import math
from pathlib import Path

import datasets
import pytest
import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer

from hf_paretokd import PlainConfig
from hf_paretokd.errors import DataError, TrainingError
from hf_paretokd.training import contract

TABLES = (contract.HONOURED, contract.FIXED, contract.REFUSED, contract.IDLE)
PAD = -77  # stands for the padding token below
DOCS = Path(__file__).parent.parent.parent / "docs" / "trainer.md"


def test_every_argument_is_in_one_table():
    fields = {item.name for item in dataclasses.fields(Seq2SeqTrainingArguments)}
    named = [name for table in TABLES for name in table]
    assert fields - set(named) == set(), "transformers has arguments that the tables lack"
    assert len(named) == len(set(named))


def test_every_parameter_is_in_one_table():
    known = {*contract.PARAMETERS, *contract.REFUSED_PARAMETERS}
    for kind in (Seq2SeqTrainer, Trainer):
        parameters = set(inspect.signature(kind.__init__).parameters) - {"self"}
        assert parameters - known == set(), "transformers has parameters that the tables lack"


def test_the_tables_are_in_the_docs():
    text = DOCS.read_text("utf-8")
    for table in (*TABLES, contract.PARAMETERS, contract.REFUSED_PARAMETERS):
        for name in table:
            assert f"`{name}`" in text, name
            if isinstance(table, dict):
                assert table[name] in text, name


OTHER = {
    "fsdp": "full_shard",
    "fsdp_config": {"version": 2},
    "deepspeed": {"zero": 1},
    "data_seed": 3,
    "neftune_noise_alpha": 5.0,
}
OTHER |= {"train_sampling_strategy": "group_by_length", "liger_kernel_config": {"rope": True}, "parallelism_config": object()}
OTHER |= {"generation_max_length": 9, "generation_num_beams": 2, "generation_config": "x"}
OTHER |= {"include_num_input_tokens_seen": "all", "per_device_train_batch_size": 64, "per_device_eval_batch_size": 64}
OTHER |= {"eval_accumulation_steps": 4, "include_for_metrics": ["loss"], "label_names": ["labels"], "length_column_name": "l"}
OTHER |= {
    "dataloader_multiprocessing_context": "fork",
    "hub_strategy": "end",
    "hub_revision": "x",
    "resume_from_checkpoint": "x",
}


def another(name):
    """A value that is not the default."""
    default = next(item.default for item in dataclasses.fields(PlainConfig) if item.name == name)
    return OTHER.get(name, not default)


@pytest.mark.parametrize("name", [*contract.REFUSED, *contract.FIXED])
def test_what_could_not_be_done_is_refused_by_name(tmp_path, name):
    if name not in {item.name for item in dataclasses.fields(PlainConfig)}:
        pytest.skip("this version of transformers has no such argument")
    with pytest.raises(TrainingError, match=f"^{name}: "):
        PlainConfig(output_dir=str(tmp_path), **{name: another(name)})


@pytest.mark.parametrize("name", contract.IDLE)
def test_what_means_nothing_is_said_once(tmp_path, monkeypatch, name):
    if name not in {item.name for item in dataclasses.fields(PlainConfig)}:
        pytest.skip("this version of transformers has no such argument")
    said = []
    monkeypatch.setattr(contract, "_warned", set())
    monkeypatch.setattr(contract.logger, "warning", said.append)
    for _ in range(2):
        PlainConfig(output_dir=str(tmp_path), bf16=False, **{name: another(name)})
    assert said == [f"{name}: means nothing here; {contract.IDLE[name]}"]


@pytest.mark.parametrize("name", contract.REFUSED_PARAMETERS)
def test_parameters_that_mean_something_else_are_refused(new_trainer, name):
    with pytest.raises(TrainingError, match=f"^{name}: "):
        new_trainer(**{"others": {name: lambda *_: None}})


@pytest.fixture
def trainer_defaults():
    return {"dropout": 0.2}


def losses(trainer):
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("plain", {}),
        ("all_in_one", {"share_prefix": False, "mutual_start": 0.0}),
        ("pareto_mutual", {"temperatures": [1.0, 5.0]}),
    ],
)
def test_activation_checkpointing_changes_nothing(new_trainer, method, fields):
    found, runs = [], []
    for switched in (False, True):
        computed = []
        trainer = new_trainer(
            method, max_steps=3, logging_steps=1, eval_steps=3, gradient_checkpointing=switched, folder=str(switched), **fields
        )
        layer = trainer.model.main_model.get_encoder().layers[0].fc1
        layer.register_forward_hook(lambda module, *_, computed=computed: computed.append(module.training))
        trainer.train()
        found.append(losses(trainer))
        runs.append(sum(computed))  # in training, not in validation
    assert runs[1] == 2 * runs[0], "every layer is run again for its gradient"
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_activation_checkpointing_is_refused_where_prefixes_are_shared(new_trainer):
    with pytest.raises(TrainingError, match="share_prefix: activation checkpointing needs independent passes"):
        new_trainer("all_in_one", gradient_checkpointing=True)


def test_an_optimizer_that_is_given_is_used_and_recorded(new_trainer, new_model):
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = new_trainer(model=model, max_steps=2, eval_steps=1, others={"optimizers": (optimizer, None)})
    trainer.train()
    assert getattr(trainer.optimizer, "optimizer", trainer.optimizer) is optimizer
    assert trainer.identity.decides["optimizer"].startswith("SGD {'lr': 0.1")
    with pytest.raises(TrainingError, match=r"optimizer was SGD .*, now "):
        new_trainer(max_steps=2, eval_steps=1).train(resume_from_checkpoint=str(trainer.checkpoint(1)))


def test_the_callers_configuration_is_never_written_to(tmp_path, new_model, encoded, tokenizer):
    from hf_paretokd import AllInOneConfig, AllInOneTrainer

    config = AllInOneConfig(
        output_dir=str(tmp_path), num_train_epochs=0.1, max_tokens=400, eval_steps=2, mutual_start=0.5, disable_tqdm=True
    )
    before = copy.deepcopy(vars(config))
    trainer = AllInOneTrainer(
        new_model(), config, train_dataset=encoded["train"], eval_dataset=encoded["validation"], processing_class=tokenizer
    )
    trainer.train()
    assert trainer.args.max_steps > 0
    after = vars(config)
    assert {name: after[name] for name in before if after[name] != before[name]}.keys() <= {"distributed_state"}


def test_training_again_is_refused(new_trainer):
    trainer = new_trainer(max_steps=2, eval_steps=1)
    trainer.train()
    with pytest.raises(TrainingError, match="have been trained by this trainer already; make a new trainer"):
        trainer.train()


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("input_ids", lambda row: [*row, PAD], "input_ids hold the padding token"),
        ("labels", lambda row: [*row, PAD], "labels hold the padding token"),
        ("labels", lambda row: [-100, *row], "labels hold -100 before their end"),
        ("input_ids", lambda row: row * 40, "a sentence has .* tokens, the model's position table only 96"),
        ("input_ids", lambda row: [*row[:-1], 5000], "column 'input_ids' holds the id 5000, the model knows 0 to"),
        ("input_ids", lambda row: [-3, *row], "column 'input_ids' holds the id -3"),
        ("labels", lambda row: [] if len(row) > 5 else row, "column 'labels' has rows without token ids"),
        ("input_ids", lambda row: list(map(str, row)), "column 'input_ids' holds list.*; give a list of token ids"),
        ("input_ids", lambda row: [each + 0.5 for each in row], "column 'input_ids' holds list.*; give a list of token ids"),
    ],
)
def test_text_that_no_model_could_be_trained_on_is_named(new_trainer, encoded, split, column, change, message):
    """In either text, although both have the same pairs."""
    pad = len(new_trainer().processing_class) - 1
    rows = encoded[split]["bs-en"].select(range(30)).to_dict()
    spoilt = [[pad if each == PAD else each for each in change(row)] for row in rows[column]]
    bad = datasets.Dataset.from_dict({**rows, column: spoilt})
    data = {**encoded, split: datasets.DatasetDict({**encoded[split], "bs-en": bad})}
    with pytest.raises(DataError, match=f"bs-en: .*{message}|bs-en: {message}"):
        new_trainer(data=data)
    if split == "validation":
        trainer = new_trainer()
        for call in (trainer.evaluate, trainer.predict):
            with pytest.raises(DataError, match=message):
                call({"bs-en": bad})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_grad_norm": -1.0}, "max_grad_norm: -1.0 is out of range"),
        ({"max_grad_norm": math.nan}, "max_grad_norm: nan is out of range"),
        ({"gradient_accumulation_steps": -1}, "gradient_accumulation_steps: -1 is out of range"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps: 0 is out of range"),
        ({"gradient_accumulation_steps": 1.5}, "gradient_accumulation_steps: 1.5 is no whole number"),
        (
            {"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 3}}},
            "accelerator_config: gradient_accumulation",
        ),
        ({"num_train_epochs": -1}, "num_train_epochs: -1 is not above 0"),
        ({"num_train_epochs": math.nan}, "num_train_epochs: nan is not above 0"),
        ({"generation_num_beams": -1}, "generation_num_beams: -1 is out of range"),
        ({"generation_num_beams": 0}, "generation_num_beams: 0 is out of range"),
        ({"generation_max_length": 1}, "generation_max_length: 1 is out of range"),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(tmp_path, fields, message):
    with pytest.raises(TrainingError, match=message):
        PlainConfig(output_dir=str(tmp_path), **fields)


def test_no_limit_on_the_gradient_may_be_said_in_two_ways(new_trainer):
    losses = []
    for number, limit in enumerate((0, None)):
        trainer = new_trainer(folder=f"{number}", max_grad_norm=limit, max_steps=2)
        trainer.train()
        losses.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert losses[0] == losses[1]


def test_optimizers_that_would_train_nothing_are_refused(new_trainer, new_model):
    other, model = new_model(seed=5), new_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    foreign = torch.optim.SGD(other.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(foreign)
    for given, message in (
        ((foreign, None), "of other parameters than those of the models"),
        ((None, schedule), "the schedule is of another optimizer"),
        ((optimizer, schedule), "the schedule is of another optimizer"),
        (optimizer, "give a pair of an optimizer and a schedule"),
        ((torch.optim.SGD, None), "is no optimizer"),
    ):
        with pytest.raises(TrainingError, match=f"optimizers: .*{message}"):
            new_trainer(model=model, others={"optimizers": given})


def test_figures_of_ones_own_are_not_taken_for_losses(new_trainer):
    fields = {"predict_with_generate": True, "generation_max_length": 6, "generation_num_beams": 1}
    trainer = new_trainer(others={"compute_metrics": lambda prediction: {"loss": -1.0}}, **fields)
    with pytest.raises(TrainingError, match="compute_metrics: 'loss' is the name of a loss"):
        trainer.evaluate()
