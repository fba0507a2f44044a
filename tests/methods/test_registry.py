"""A new method is its own file and one entry in the registry: everything else takes it as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from commands import TINY, command

from hf_paretokd.errors import RecipeError
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.methods import registry
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.passes import Pass
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.parts import lone
from hf_paretokd.training.trainer import TranslationTrainer

# ---- the method: what CONTRIBUTING describes in four steps


@dataclass
class ToyConfig(TranslationConfig):
    """Configuration of the toy.

    Args:
        toy_weight: factor on the cross-entropy.
    """

    toy_weight: float = 1.0


class ToyModel(JointModel):
    """One model whose loss is weighted."""

    kind = "model"

    def __init__(self, model, config):
        super().__init__(config.label_smoothing_factor, config.label_smoothing_variant)
        self.toy, self.weight = model, config.toy_weight

    def models(self):
        return [self.toy]

    def passes(self, peer: int, batch: Mapping[str, Any]) -> Passes:
        return Passes([Pass(self.toy, self.weight)], (), lambda loss, tokens: {"toy_nll": (loss.nll[0], tokens)})


class ToyTrainer(TranslationTrainer):
    """Trains the toy."""

    method = "toy"
    facts = MethodFacts("Toy training", tag="toy-kd", prose="Trained as a toy.", papers=("@misc{toy}",))
    config_class = ToyConfig

    def joint_model(self, models, args):
        return ToyModel(lone(models), args)


# ---- and nothing else


def test_a_method_of_ones_own_goes_all_the_way(recipe_file, tmp_path, monkeypatch, capsys):
    with pytest.raises(RecipeError, match="method 'toy' is not one of plain, all_in_one, pareto_mutual"):
        registry.trainer_of("toy")
    monkeypatch.setattr(registry, "METHODS", (*registry.METHODS, ToyTrainer))
    raw = yaml.safe_load(recipe_file.read_text())
    recipe_file.write_text(yaml.safe_dump({**raw, "method": "toy", "toy": {"toy_weight": 2.0}}))
    assert command("train", recipe_file, "--help-all") == 0
    assert "  --toy_weight 2.0\n      factor on the cross-entropy." in capsys.readouterr().out
    assert command("train", recipe_file, *TINY) == 0
    run = tmp_path / "run"
    log = (run / "trainer_state.json").read_text()
    assert '"toy_nll"' in log
    assert "method:toy|depth:2-2|" in (run / "results.json").read_text()
    assert "toy_weight:2" in (run / "results.json").read_text()
    card = (run / "model" / "README.md").read_text()
    for part in ("- toy-kd", "Trained as a toy.", "@misc{toy}"):
        assert part in card
    assert "inproceedings" not in card, "it cites its own paper only"
    assert "Toy training" in (run / "report.html").read_text()
    capsys.readouterr()
    assert command("report", run) == 0
    assert command("push", run, "--to", "anna/toy", "--dry-run", "--cards") == 0
    assert "Trained as a toy." in capsys.readouterr().out
    assert command("train", recipe_file, *TINY, "--toy_weigth", "3") == 2
    assert "did you mean --toy_weight?" in capsys.readouterr().err


def test_every_method_says_what_it_is():
    for trainer in registry.METHODS:
        assert trainer.facts.title
        assert registry.trainer_of(trainer.method) is trainer
        assert registry.facts_of(trainer.method) is trainer.facts
    assert registry.facts_of("") is registry.UNKNOWN
