import pytest
import torch

from hf_paretokd import (
    AllInOneConfig,
    AllInOneTrainer,
    ParetoMutualConfig,
    ParetoMutualTrainer,
    PlainConfig,
    PlainTrainer,
)
from hf_paretokd.errors import TrainingError
from hf_paretokd.training import arguments

METHODS = {
    "plain": (PlainTrainer, PlainConfig, {}),
    "all_in_one": (AllInOneTrainer, AllInOneConfig, {"mutual_start": 0.0}),
    "separate passes": (AllInOneTrainer, AllInOneConfig, {"mutual_start": 0.0, "views": "independent"}),
    "pareto_mutual": (ParetoMutualTrainer, ParetoMutualConfig, {"strategy": "auto", "update_interval": 2, "trial_share": 0.02}),
}


@pytest.fixture
def trained(new_model, encoded, tokenizer, tmp_path):
    def train(method, **fields):
        trainer_class, config_class, own = METHODS[method]
        config = config_class(
            output_dir=str(tmp_path / "run"),
            max_steps=3,
            max_tokens=400,
            warmup_steps=2,
            eval_strategy="no",
            save_strategy="no",
            logging_steps=1,
            learning_rate=3e-3,
            disable_tqdm=True,
            **{**own, **fields},
        )
        models = [new_model(seed=seed, dropout=0.1) for seed in range(len(config.temperatures))]
        trainer = trainer_class(
            models if len(models) > 1 else models[0],
            config,
            train_dataset=encoded["train"],
            eval_dataset=encoded["validation"],
            processing_class=tokenizer,
        )
        trainer.train()
        return [line["loss"] for line in trainer.state.log_history if "loss" in line], [
            {name: value.clone() for name, value in model.state_dict().items()} for model in models
        ]

    return train


@pytest.mark.parametrize("method", METHODS)
def test_compiled_layers_change_nothing(trained, method):
    """With a backend that runs the captured graphs as they are, so that no C++ compiler is needed."""
    graphs = []

    def counting(graph, _example_inputs):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    torch._dynamo.register_backend(counting, name=f"counting {method}")
    plain, compiled = trained(method), trained(method, torch_compile=True, torch_compile_backend=f"counting {method}")
    assert 2 <= len(graphs) <= 8, "layers of one kind share their graphs"
    assert compiled[0] == plain[0]
    for ours, theirs in zip(compiled[1], plain[1], strict=True):
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.parametrize("method", METHODS)
def test_adamw_is_fused(trained, method, monkeypatch):
    seen = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *rest: seen.append(self.defaults["fused"]) or step(self, *rest))
    trained(method)
    assert set(seen) == {True}


@pytest.mark.parametrize("method", METHODS)
def test_bf16(trained, method):
    exact, low = trained(method), trained(method, bf16=True)
    assert low[0] != exact[0]
    assert low[0] == pytest.approx(exact[0], rel=0.02)
    assert all(value.dtype == torch.float32 for weights in low[1] for value in weights.values())


@pytest.mark.parametrize(("able", "fields", "expected"), [(True, {}, True), (True, {"bf16": False}, False), (False, {}, False)])
def test_bf16_is_the_default_where_the_machine_has_it(tmp_path, monkeypatch, able, fields, expected):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr(arguments, "has_bf16", lambda cpu: able)
    said = []
    monkeypatch.setattr(arguments.logger, "warning", said.append)
    assert PlainConfig(output_dir=str(tmp_path), **fields).bf16 is expected
    assert bool(said) == (expected and not fields)


@pytest.mark.parametrize(
    ("launched", "fields", "expected"),
    [
        ("bf16", {}, "bf16"),
        ("no", {}, "no"),  # though the machine has bf16
        ("fp16", {}, "refused"),
        ("bf16", {"bf16": False}, "no"),
        ("fp16", {"bf16": False}, "no"),
        ("no", {"bf16": True}, "bf16"),
        ("bf16", {"fp16": True}, "refused"),
        ("fp16", {"bf16": True}, "bf16"),
    ],
)
def test_a_precision_that_was_chosen_beats_the_launcher_and_one_that_was_not_yields(
    tmp_path, monkeypatch, launched, fields, expected
):
    monkeypatch.setattr(arguments, "has_bf16", lambda cpu: True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    if expected == "refused":
        with pytest.raises(TrainingError, match="fp16: a CPU does not train in it"):
            PlainConfig(output_dir=str(tmp_path), **fields)
        return
    args = PlainConfig(output_dir=str(tmp_path), **fields)
    assert args.mixed_precision == expected
    assert (args.bf16, args.fp16) == (expected == "bf16", expected == "fp16")


@pytest.mark.parametrize("launched", ["fp8", "foo", ""])
def test_a_launcher_that_wants_what_there_is_not_is_refused(tmp_path, monkeypatch, launched):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    for fields in ({}, {"bf16": True}):
        with pytest.raises(TrainingError, match=rf"ACCELERATE_MIXED_PRECISION: {launched!r}, .* is not one of no, bf16, fp16"):
            PlainConfig(output_dir=str(tmp_path), **fields)


@pytest.mark.parametrize("bf16", [False, True])
def test_the_signature_names_the_precision_that_was_used(new_trainer, monkeypatch, bf16):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no" if bf16 else "bf16")
    trainer = new_trainer(bf16=bf16, max_steps=1)
    seen = []
    kind = type(trainer.model)
    forward = kind.forward

    def watched(*words, **options):
        seen.append(torch.is_autocast_enabled("cpu"))
        return forward(*words, **options)

    monkeypatch.setattr(kind, "forward", watched)
    trainer.train()
    assert set(seen) == {bf16}
    assert trainer.identity.decides["precision"] == ("bf16" if bf16 else "no")
    assert f"|bf16:{bf16}|" in trainer.identity.text
