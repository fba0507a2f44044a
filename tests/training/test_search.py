"""Models that are made anew for every training, and searches over arguments."""

import json

import optuna
import pytest
import torch
from transformers import TrainerCallback

from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.methods.registry import trainer_of

METHODS = ["plain", "all_in_one", "pareto_mutual"]


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def with_model_init(new_trainer, new_model, encoded, tokenizer):
    """A trainer that makes its models, and one that was given the same."""

    def build(method, **fields):
        other = new_trainer(method, **fields)
        peers = len(other.args.temperatures)

        def model_init():
            return [new_model(seed=seed) for seed in range(1, peers + 1)] if peers > 1 else new_model()

        given = {"train_dataset": encoded["train"], "eval_dataset": encoded["validation"], "processing_class": tokenizer}
        return trainer_of(method)(args=other.args, model_init=model_init, **given), other

    return build


def weights(trainer):
    return {f"{n}.{k}": v.clone() for n, model in trainer.model.named_models() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("method", METHODS)
def test_every_training_begins_anew(with_model_init, method):
    trainer, other = with_model_init(method, max_steps=4, eval_steps=2)
    other.train()
    expected = weights(other)
    for _ in range(2):
        trainer.train()
        assert trainer.state.global_step == 4
        found = weights(trainer)
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_trials_are_trainings_of_their_own(with_model_init, new_trainer, tmp_path):
    trainer, _ = with_model_init("all_in_one", max_steps=4, eval_steps=2)
    grid = {"learning_rate": [1e-3, 4e-3], "label_smoothing_factor": [0.0]}

    def space(trial):
        return {name: trial.suggest_categorical(name, values) for name, values in grid.items()}

    best = trainer.hyperparameter_search(space, n_trials=2, sampler=optuna.samplers.GridSampler(grid))
    losses = {}
    for trial in ("run-0", "run-1"):
        folder = tmp_path / "run" / trial / "checkpoints" / "checkpoint-4"
        decides = json.loads((folder / "training.json").read_text())["decides"]
        assert decides["label_smoothing_factor"] == 0.0
        state = json.loads((folder / "trainer_state.json").read_text())
        losses[decides["learning_rate"]] = [line["eval_loss"] for line in state["log_history"] if "eval_loss" in line][-1]
    assert set(losses) == {1e-3, 4e-3}
    assert best.objective == min(losses.values())
    assert losses[best.hyperparameters["learning_rate"]] == best.objective
    alone = new_trainer("all_in_one", max_steps=4, eval_steps=2, folder="alone", label_smoothing_factor=0.0, learning_rate=4e-3)
    alone.train()
    assert losses[4e-3] == alone.evaluate()["eval_loss"], "as if it had been trained by itself"
    trainer.train()
    assert trainer.args.learning_rate == 3e-3, "a training after the search is by the trainer's own arguments"
    assert trainer.args.output_dir == str(tmp_path / "run")


def test_larger_figures_are_searched_for_where_they_are_better(with_model_init):
    trainer, _ = with_model_init(
        "plain", max_steps=2, eval_steps=1, predict_with_generate=True, metric_for_best_model="chrf", generation_max_length=12
    )
    best = trainer.hyperparameter_search(lambda trial: {"seed": trial.suggest_int("seed", 1, 9)}, n_trials=2, hp_name=str)
    assert best.objective > 0


def test_what_is_changed_between_trainings_counts(with_model_init):
    """Arguments and callbacks, after a search and between two trainings."""

    class Counts(TrainerCallback):
        steps = 0

        def on_step_end(self, args, state, control, **kwargs):
            self.steps += 1

    trainer, _ = with_model_init("plain", max_steps=2, eval_steps=1)
    counts = Counts()
    trainer.add_callback(counts)
    space = lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-3, 2e-3)}  # noqa: E731
    best = trainer.hyperparameter_search(space, n_trials=2)
    assert counts.steps == 4
    for name, value in best.hyperparameters.items():
        setattr(trainer.args, name, value)
    trainer.train()
    assert trainer.optimizer.defaults["lr"] == best.hyperparameters["learning_rate"]
    trainer.args.max_steps = 3
    trainer.remove_callback(Counts)
    trainer.train()
    assert (trainer.state.global_step, counts.steps) == (3, 6)
    trainer.args.max_tokens = 0
    with pytest.raises(TrainingError, match="max_tokens: 0 is out of range"):
        trainer.train()


def test_a_training_that_begins_anew_is_as_long_as_was_asked(with_model_init):
    """Not as long as one that was made longer before it."""
    trainer, other = with_model_init("plain", max_steps=2, eval_steps=1)
    other.train()
    trainer.train(resume_from_checkpoint=str(other.checkpoint(1)), extend=2)
    assert trainer.state.global_step == 4
    trainer.train()
    assert trainer.state.global_step == 2


def test_what_is_searched_for_is_a_figure(with_model_init):
    trainer, _ = with_model_init("plain", max_steps=2, eval_strategy="no", metric_for_best_model="bleu")
    with pytest.raises(TrainingError, match="metric_for_best_model: 'eval_bleu' is none of a validation's figures: eval_loss"):
        trainer.hyperparameter_search(lambda trial: {"seed": trial.suggest_int("seed", 1, 9)}, n_trials=1)


def test_what_a_search_needs(with_model_init, new_trainer, new_model):
    with pytest.raises(TrainingError, match="give model_init in place of model"):
        new_trainer().hyperparameter_search(lambda trial: {})
    trainer, other = with_model_init("plain", max_steps=2, eval_steps=1)
    with pytest.raises(TrainingError, match="hp_space is missing, such as lambda trial"):
        trainer.hyperparameter_search()
    with pytest.raises(TrainingError, match="backend 'ray' is not supported"):
        trainer.hyperparameter_search(lambda trial: {}, backend="ray")
    with pytest.raises(TrainingError, match="hp_space: 'learning_rat' is no argument of PlainConfig"):
        trainer.hyperparameter_search(lambda trial: {"learning_rat": 1.0}, n_trials=1)
    with pytest.raises(TrainingError, match="hp_space: returned None; return a dictionary"):
        trainer.hyperparameter_search(lambda trial: None, n_trials=1)
    with pytest.raises(TrainingError, match=r"hp_space: per_device_train_batch_size: .*; set max_tokens"):
        trainer.hyperparameter_search(lambda trial: {"per_device_train_batch_size": 8}, n_trials=1)
    for fields, message in (
        ({"n_trials": 0}, "n_trials 0 is not 1 or more"),
        ({"n_jobs": 2}, "n_jobs: one trainer trains one trial at a time"),
        ({"hp_name": "run"}, "hp_space and hp_name are functions"),
    ):
        with pytest.raises(TrainingError, match=message):
            trainer.hyperparameter_search(lambda trial: {}, **fields)
    with pytest.raises(TrainingError, match="hp_space: output_dir: every trial has a folder of its own"):
        trainer.hyperparameter_search(lambda trial: {"output_dir": "x"}, n_trials=1)
    with pytest.raises(TrainingError, match="direction 'up' is not one of minimize, maximize"):
        trainer.hyperparameter_search(lambda trial: {}, n_trials=1, direction="up")
    with pytest.raises(TrainingError, match=r"learning_rate: -1.0 is out of range"):
        trainer.hyperparameter_search(lambda trial: {"learning_rate": -1.0}, n_trials=1)
    with pytest.raises(TrainingError, match="model: give a model, or model_init that makes one, and not both"):
        new_trainer(others={"model_init": new_model})
    with pytest.raises(TrainingError, match="model: give a model, or model_init"):
        trainer_of("plain")(args=other.args)
    with pytest.raises(ModelError, match="model_init: returned nothing"):
        trainer_of("plain")(args=other.args, model_init=lambda: None)
    with pytest.raises(TrainingError, match="model_init: is no function"):
        trainer_of("plain")(args=other.args, model_init=new_model())
    with pytest.raises(TrainingError, match="model_init: takes more than a trial"):
        trainer_of("plain")(args=other.args, model_init=lambda trial, more: None)
    kept = new_model()
    trainer.given["model_init"] = trainer.model_init = lambda: kept
    with pytest.raises(ModelError, match="model_init: returned a model that it had returned before"):
        trainer.hyperparameter_search(lambda trial: {}, n_trials=2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with pytest.raises(TrainingError, match="optimizers: of new models"):
        trainer_of("plain")(args=other.args, model_init=new_model, optimizers=(optimizer, None))
    with pytest.raises(ModelError, match="2 models were given, but one is trained"):
        new_trainer(model=[new_model(), new_model(seed=2)])
