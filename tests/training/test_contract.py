"""Every argument and parameter of the stock trainer is honoured, refused with a reason, or said to mean nothing."""

import copy
import dataclasses
import inspect
import math
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import (
    EarlyStoppingCallback,
    HfArgumentParser,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerState,
)

from hf_paretokd import AllInOneConfig, AllInOneTrainer, Depth, ParetoMutualConfig, PlainConfig, PlainTrainer
from hf_paretokd.errors import DataError, ModelError, TrainingError
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
    "local_rank": 0,
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
        ("all_in_one", {"views": "independent", "mutual_start": 0.0}),
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
    with pytest.raises(TrainingError, match="views: activation checkpointing needs passes that share nothing"):
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
        ("labels", lambda row: [-5, *row], "column 'labels' holds the id -5"),
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
        ({"gradient_accumulation_steps": 1.5}, "gradient_accumulation_steps: 1.5 is not of the type int"),
        ({"num_train_epochs": -1}, "num_train_epochs: -1 is not above 0"),
        ({"num_train_epochs": math.nan}, "num_train_epochs: nan is not above 0"),
        ({"generation_num_beams": -1}, "generation_num_beams: -1 is out of range"),
        ({"generation_num_beams": 0}, "generation_num_beams: 0 is out of range"),
        ({"generation_max_length": 1}, "generation_max_length: 1 is out of range"),
        ({"unimax_epochs": [-1.0]}, "unimax_epochs: -1 is not 0 or more"),
        ({"unimax_epochs": [1.0, 2.0]}, "unimax_epochs: 2 are given for 1 temperatures; give one for each"),
        ({"max_tokens": "512"}, "max_tokens: '512' is not of the type int"),
        ({"max_tokens": None}, "max_tokens: None is not of the type int"),
        ({"max_tokens": True}, "max_tokens: True is not of the type int"),
        ({"learning_rate": "1e-3"}, "learning_rate: '1e-3' is not of the type float"),
        ({"temperatures": [1.0, None]}, r"temperatures: \[1.0, None\] is not of the type list\[float\]"),
        ({"temperatures": 1.0}, r"temperatures: 1.0 is not of the type list\[float\]"),
        ({"load_best_model_at_end": "no"}, "load_best_model_at_end: 'no' is not of the type bool"),
        ({"warmup_steps": math.nan}, "warmup_steps: nan is out of range"),
        ({"seed": -1}, "seed: -1 is out of range"),
        ({"adam_beta1": 1.0}, "adam_beta1: 1.0 is out of range"),
        ({"save_total_limit": -1}, "save_total_limit: -1 is out of range"),
        ({"log_level": "loud"}, "log_level: 'loud' .* info"),
        ({"ddp_backend": "smoke"}, "ddp_backend: 'smoke' is not one of nccl, gloo"),
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config: it is about loaders"),
        ({"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 3}}}, "accelerator_config: it is about loaders"),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(tmp_path, fields, message):
    with pytest.raises(TrainingError, match=message):
        PlainConfig(output_dir=str(tmp_path), **fields)


def test_numbers_of_other_libraries_are_numbers(tmp_path):
    config = PlainConfig(output_dir=str(tmp_path), max_tokens=np.int64(512), learning_rate=np.float32(0.5), warmup_steps=10)
    assert (config.max_tokens, config.learning_rate) == (512, 0.5)


@pytest.mark.parametrize("kind", [PlainConfig, AllInOneConfig, ParetoMutualConfig])
def test_configurations_come_from_parsers_and_dictionaries(kind, tmp_path):
    (parsed,) = HfArgumentParser((kind,)).parse_args_into_dataclasses(["--output_dir", str(tmp_path), "--max_steps", "10"])
    assert parsed.max_steps == 10
    again = kind(**kind(output_dir=str(tmp_path), max_steps=10).to_dict())
    assert again.max_steps == 10


@pytest.mark.parametrize(
    ("fields", "settled"),
    [
        ({"output_dir": Path("x")}, {"output_dir": "x"}),
        ({"temperatures": (2.0,)}, {"temperatures": [2.0]}),
        ({"max_grad_norm": math.inf}, {"max_grad_norm": None}),
        ({"use_cpu": np.True_}, {"use_cpu": True}),
        ({"report_to": None}, {"report_to": []}),
        ({"fsdp": ""}, {}),
        ({"fsdp": False}, {}),
        ({"fsdp_config": {}}, {}),
        ({"neftune_noise_alpha": 0.0}, {"neftune_noise_alpha": None}),
        ({"accelerator_config": {}}, {}),
        ({"debug": None}, {}),
    ],
)
def test_what_means_the_same_is_taken(fields, settled, tmp_path):
    config = PlainConfig(**{"output_dir": str(tmp_path), **fields})
    assert {name: getattr(config, name) for name in settled} == settled
    copy.copy(config).check()


def test_depths_may_be_depths(tmp_path):
    config = AllInOneConfig(output_dir=str(tmp_path), candidates=(Depth(3, 2), "2-2"), always=[Depth(2, 2)])
    assert (config.candidates, config.always) == (["3-2", "2-2"], ["2-2"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optim": "adam"}, "adam is not a valid OptimizerNames"),
        ({"lr_scheduler_type": "sometimes"}, "sometimes"),
        ({"eval_strategy": "now"}, "now"),
        ({"save_steps": 3, "eval_steps": 2}, "save_steps|saving steps"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor"),
        ({"debug": "all"}, "debug|all"),
        ({"tf32": True}, "tf32"),
    ],
)
def test_what_transformers_refuses_is_an_error_of_ones_own(fields, message, tmp_path):
    with pytest.raises(TrainingError, match=message):
        PlainConfig(output_dir=str(tmp_path), use_cpu=True, **fields)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("per_device_train_batch_size", 32, "set max_tokens"),
        ("data_seed", 3, "data_seed: the order of the data"),
        ("remove_unused_columns", True, "must stay off"),
        ("label_smoothing_factor", 2.0, "is out of range"),
        ("neftune_noise_alpha", 5.0, "neftune_noise_alpha: noise on embeddings"),
        ("gradient_accumulation_steps", 0, "is out of range"),
        ("eval_steps", 0, "eval_steps: 0 is not above 0"),
        ("max_tokens", "x", "max_tokens: 'x' is not of the type int"),
        ("temperatures", [1.0, 2.0], "one model is trained, but 2 are given"),
        ("consistency", "some", "consistency: 'some' is not one of"),
        ("report_to", ["nosuch"], "report_to: nosuch"),
        ("report_to", "clearml", "report_to: .*clearml"),
        ("gradient_checkpointing_kwargs", {"nosuch": 1}, "gradient_checkpointing_kwargs: 'nosuch' is not one of"),
    ],
)
def test_arguments_set_later_are_looked_at_too(new_model, encoded, tmp_path, name, value, message):
    config = PlainConfig(output_dir=str(tmp_path), disable_tqdm=True)
    setattr(config, name, value)
    with pytest.raises(TrainingError, match=message):
        PlainTrainer(new_model(), config, train_dataset=encoded["train"], eval_dataset=encoded["validation"])


def test_backends_of_the_compiler_are_known_before(new_trainer):
    with pytest.raises(TrainingError, match=r"torch_compile_backend: 'nosuch' is not one of .*inductor"):
        new_trainer(torch_compile=True, torch_compile_backend="nosuch")
    with pytest.raises(TrainingError, match=r"torch_compile_mode: 'max_autotune' is not one of .*max-autotune"):
        new_trainer(torch_compile=True, torch_compile_mode="max_autotune")


def test_text_set_later(new_trainer, encoded):
    trainer = new_trainer()
    other = {"fr-en": encoded["test"]["fr-en"]}
    trainer.eval_dataset = other
    assert trainer.evaluate()["eval_loss"] == trainer.evaluate(other)["eval_loss"]
    trainer.train_dataset = other
    with pytest.raises(TrainingError, match="train_dataset: was another when the trainer was made; make a new trainer"):
        trainer.train()


def test_what_no_validation_could_do_is_refused(new_trainer, new_model):
    trainer = new_trainer()
    with pytest.raises(TrainingError, match="num_beams: nothing is translated; set predict_with_generate"):
        trainer.evaluate(num_beams=2)
    for call in (trainer.evaluate, lambda **prefix: trainer.predict(trainer.eval_pairs, **prefix)):
        with pytest.raises(TrainingError, match="metric_key_prefix: None is no text"):
            call(metric_key_prefix=None)
    for name, value in (("num_beams", 0), ("num_beams", "4"), ("max_length", 7.5)):
        with pytest.raises(TrainingError, match=f"{name}: .* is not a whole number"):
            trainer.predict(trainer.eval_pairs, **{name: value})
    with pytest.raises(TrainingError, match="5000 is more than the 96 tokens the model takes"):
        trainer.predict(trainer.eval_pairs, max_length=5000)
    for tokenizer, kind in (("some/path", "str"), (3, "int"), ([], "list")):
        with pytest.raises(TrainingError, match=f"processing_class: a {kind} is no tokenizer"):
            new_trainer(processing_class=tokenizer)
    with pytest.raises(TrainingError, match="tokenizer: give it as processing_class"):
        new_trainer(others={"tokenizer": trainer.processing_class})
    with pytest.raises(TrainingError, match="compute_metrics: is no function"):
        new_trainer(predict_with_generate=True, others={"compute_metrics": "bleu"})
    frozen = new_model().requires_grad_(False)
    with pytest.raises(TrainingError, match="model: no parameter is trained"):
        new_trainer(model=frozen).train()
    late = new_trainer(eval_strategy="no")
    late.add_callback(EarlyStoppingCallback(2))
    with pytest.raises(TrainingError, match="callbacks: EarlyStoppingCallback needs validations"):
        late.train()


def test_a_figure_that_is_no_number_decides_nothing(new_trainer):
    fields = {"predict_with_generate": True, "generation_max_length": 6, "generation_num_beams": 1, "max_steps": 2}
    trainer = new_trainer(others={"compute_metrics": lambda _: {"ter": math.nan}}, metric_for_best_model="ter", **fields)
    with pytest.raises(TrainingError, match="metric_for_best_model: ter is nan after update 2"):
        trainer.train()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optim_args": "momentum"}, "optim adamw_torch.*, optim_args 'momentum': "),
        ({"optim_args": "momentum=0.9"}, "optim_args: 'momentum=0.9' means nothing to the optimizer adamw_torch"),
        ({"optim": "lomo"}, "optim lomo, optim_args None: .*lomo"),
        ({"lr_scheduler_kwargs": {"cycles": 3}, "lr_scheduler_type": "cosine"}, "lr_scheduler_kwargs: .*'cycles'"),
        (
            {"lr_scheduler_type": "polynomial", "warmup_steps": 6, "max_steps": 6},
            "lr_scheduler_type: polynomial has no update left after 6 of warm-up in 6; lower warmup_steps",
        ),
    ],
)
def test_schedules_and_optimizers_are_tried_before_a_training(new_trainer, fields, message):
    with pytest.raises(TrainingError, match=message):
        new_trainer(**fields)


def test_schedules_of_stages_are_tried_by_themselves(new_trainer):
    fields = {"lr_scheduler_type": "polynomial", "warmup_steps": 4, "max_steps": 8, "mutual_start": 0.5}
    with pytest.raises(TrainingError, match="polynomial has no update left after 4 of warm-up in 4"):
        new_trainer("all_in_one", **fields)
    new_trainer("all_in_one", **fields, stage2_reset=[])


def test_parts_that_are_none_are_named(new_model, encoded, tmp_path):
    data = {"train_dataset": encoded["train"], "eval_dataset": encoded["validation"]}
    stock = Seq2SeqTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    config = PlainConfig(output_dir=str(tmp_path), disable_tqdm=True)
    for args, kind in (
        (stock, "a Seq2SeqTrainingArguments"),
        ({"max_steps": 3}, "a dict"),
        (PlainConfig, "the class PlainConfig"),
    ):
        with pytest.raises(TrainingError, match=f"args: is {kind}; give a PlainConfig"):
            PlainTrainer(new_model(), args, **data)
    with pytest.raises(TrainingError, match=r"args: is a PlainConfig; give a AllInOneConfig"):
        AllInOneTrainer(new_model(), config, **data)
    for model in (3, new_model().config, {"model": new_model()}):
        with pytest.raises(ModelError, match=r"model: .* is no model; give a PreTrainedModel, or its"):
            PlainTrainer(model, config, **data)
    for callbacks in ([print], print, [TrainerState]):
        with pytest.raises(TrainingError, match=r"callbacks: .* is no"):
            PlainTrainer(new_model(), config, **data, callbacks=callbacks)
    with pytest.raises(TrainingError, match="eval_dataset: is missing; give validation text, or set eval_strategy to no"):
        PlainTrainer(new_model(), config, train_dataset=encoded["train"])
    never = PlainConfig(output_dir=str(tmp_path), disable_tqdm=True, eval_strategy="no")
    with pytest.raises(TrainingError, match="callbacks: EarlyStoppingCallback needs validations"):
        PlainTrainer(new_model(), never, **data, callbacks=[EarlyStoppingCallback(2)])
    PlainTrainer(new_model(), config, **data, callbacks=(EarlyStoppingCallback(2),))


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
        ((None, "linear"), "a str is no schedule"),
        ((torch.optim.LBFGS(model.parameters()), None), "LBFGS evaluates an update several times"),
    ):
        with pytest.raises(TrainingError, match=f"optimizers: .*{message}"):
            new_trainer(model=model, others={"optimizers": given})


def test_figures_of_ones_own_are_not_taken_for_losses(new_trainer):
    fields = {"predict_with_generate": True, "generation_max_length": 6, "generation_num_beams": 1}
    trainer = new_trainer(others={"compute_metrics": lambda prediction: {"loss": -1.0}}, **fields)
    with pytest.raises(TrainingError, match="compute_metrics: 'loss' is the name of a loss"):
        trainer.evaluate()


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda prediction: None, "compute_metrics: returned None; return a dictionary"),
        (lambda prediction: {"rows": "many"}, "compute_metrics: 'rows' is 'many'; give text as names and one number each"),
        (lambda prediction: {prediction.pair: 1.0}, "compute_metrics: returned other figures for one pair than for another"),
    ],
)
def test_figures_of_ones_own_that_are_none(new_trainer, compute, message):
    fields = {"predict_with_generate": True, "generation_max_length": 6, "generation_num_beams": 1}
    with pytest.raises(TrainingError, match=message):
        new_trainer(others={"compute_metrics": compute}, **fields).evaluate()


def test_figures_of_ones_own_that_never_come(new_trainer):
    fields = {"predict_with_generate": True, "generation_max_length": 6, "generation_num_beams": 1, "max_steps": 2}
    compute = {"compute_metrics": lambda prediction: {"eval_rows": np.float32(3)}}
    trainer = new_trainer(others=compute, metric_for_best_model="row", **fields)
    with pytest.raises(TrainingError, match=r"metric_for_best_model: 'row' is nothing that a validation finds out; .*rows"):
        trainer.train()
    assert trainer.evaluate()["eval_rows"] == 3.0, "the prefix stands once"
