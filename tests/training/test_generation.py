"""Translations during validation, and figures made of them."""

import numpy as np
import pytest
import sacrebleu
import torch
from transformers import EvalPrediction

from hf_paretokd import TranslationMetrics
from hf_paretokd.errors import DataError, TrainingError
from hf_paretokd.inference.decoding import translate
from hf_paretokd.training.generation import padded

LONGEST = 12


def texts(tokenizer, rows):
    return tokenizer.batch_decode([[each for each in row if each >= 0] for row in rows], skip_special_tokens=True)


def by_hand(encoded, tokenizer, model, beams):
    """BLEU and chrF of every pair by sacrebleu itself, of what the model's `generate` makes of one row after the other."""
    found = {}
    model.eval()
    for pair, rows in encoded["validation"].items():
        made = [
            model.generate(torch.tensor([ids]), num_beams=beams, max_length=LONGEST)[0].tolist() for ids in rows["input_ids"]
        ]
        made, wanted = texts(tokenizer, made), texts(tokenizer, rows["labels"])
        found[f"bleu_{pair}"] = sacrebleu.corpus_bleu(made, [wanted]).score
        found[f"chrf_{pair}"] = sacrebleu.corpus_chrf(made, [wanted]).score
    return found


@pytest.fixture
def trainer_defaults():
    return {"predict_with_generate": True, "max_steps": 4, "eval_steps": 2, "generation_max_length": LONGEST}


def test_validation_finds_out_bleu_and_chrf(new_trainer, tokenizer, encoded):
    trainer = new_trainer(metric_for_best_model="bleu", generation_num_beams=2)
    assert trainer.args.greater_is_better is True
    trainer.train()
    metrics = trainer.evaluate()
    expected = by_hand(encoded, tokenizer, trainer.model.models()[0], 2)
    assert {name: metrics[f"eval_{name}"] for name in expected} == pytest.approx(expected)
    assert metrics["eval_bleu"] == pytest.approx(np.mean([metrics[f"eval_bleu_{pair}"] for pair in encoded["validation"]]))
    assert metrics["eval_chrf"] > 0
    logged = [line["eval_bleu"] for line in trainer.state.log_history if "eval_bleu" in line][:2]
    assert trainer.state.best_metric == max(logged)


def test_every_peer_translates_and_the_best_of_each_is_kept(new_trainer, tokenizer, encoded):
    trainer = new_trainer("pareto_mutual", metric_for_best_model="chrf")
    trainer.train()
    metrics = trainer.evaluate()
    for peer, model in enumerate(trainer.model.models(), 1):
        expected = by_hand(encoded, tokenizer, model, model.generation_config.num_beams)
        assert {name: metrics[f"eval_peer{peer}_{name}"] for name in expected} == pytest.approx(expected)
    assert metrics["eval_chrf"] == pytest.approx((metrics["eval_peer1_chrf"] + metrics["eval_peer2_chrf"]) / 2)
    for peer in (0, 1):
        lines = {
            line["step"]: line[f"eval_peer{peer + 1}_chrf"] for line in trainer.state.log_history[:-1] if "eval_loss" in line
        }
        assert lines[trainer.best_step(peer)] == max(lines.values())


def test_a_function_of_ones_own_is_given_each_pair(new_trainer, encoded):
    seen = []

    def compute(prediction):
        seen.append((prediction.pair, prediction.predictions.shape[0], prediction.label_ids.shape[0]))
        return {"rows": float(len(prediction.label_ids))}

    trainer = new_trainer("all_in_one", metric_for_best_model="rows", others={"compute_metrics": compute})
    trainer.train()
    rows = {pair: len(each) for pair, each in encoded["validation"].items()}
    assert seen[: len(rows)] == [(pair, count, count) for pair, count in rows.items()]
    assert trainer.state.best_metric == np.mean(list(rows.values()))


def test_what_is_predicted(new_trainer, tokenizer, encoded):
    trainer = new_trainer("all_in_one", predict_with_generate=False, generation_max_length=None)
    trainer.train()
    rows = encoded["validation"]["bs-en"].select(range(9))
    found = trainer.predict(rows, num_beams=2, max_length=20)
    sources = [tokenizer.decode(ids, skip_special_tokens=True) for ids in rows["input_ids"]]
    assert found.predictions.shape[0] == 9
    assert found.predictions.shape[1] <= 20
    assert [list(row[row >= 0]) for row in found.label_ids] == rows["labels"]
    teacher = trainer.model.models()[0]
    longer = trainer.predict(rows, num_beams=2)
    assert texts(tokenizer, longer.predictions) == translate(teacher, tokenizer, sources, num_beams=2)
    assert set(found.metrics) >= {"test_loss", "test_nll", "test_bleu", "test_chrf", "test_loss_2-2"}
    assert found.metrics["test_loss"] == trainer.evaluate(rows, metric_key_prefix="test")["test_loss"]
    unlabelled = trainer.predict({"bs-en": rows.remove_columns("labels")}, num_beams=2)
    assert np.array_equal(unlabelled.predictions, longer.predictions)
    assert (unlabelled.label_ids, unlabelled.metrics) == (None, {})
    both = trainer.predict(encoded["validation"])
    assert len(both.predictions) == sum(map(len, encoded["validation"].values()))
    with pytest.raises(TrainingError, match="do_sample: translations take num_beams and max_length"):
        trainer.predict(rows, do_sample=True)
    with pytest.raises(DataError, match="column 'input_ids' is missing"):
        trainer.predict(rows.remove_columns("input_ids"))


def test_what_does_not_go_together_is_refused(new_trainer):
    with pytest.raises(TrainingError, match="compute_metrics: needs predict_with_generate"):
        new_trainer(predict_with_generate=False, others={"compute_metrics": lambda prediction: {}})
    with pytest.raises(
        TrainingError, match=r"'ter' is nothing that a validation finds out; it can be one of loss, nll, .*bleu"
    ):
        new_trainer(metric_for_best_model="ter")
    with pytest.raises(TrainingError, match="translations need the tokenizer"):
        new_trainer(processing_class=None).evaluate()


def test_the_ready_metrics_serve_the_stock_trainer(tokenizer):
    wanted = ["eine Zeile, die lang genug ist", "noch eine Zeile mit Wörtern"]
    ids = padded(tokenizer(text_target=wanted)["input_ids"])
    assert TranslationMetrics(tokenizer, "de")(EvalPrediction(ids, ids)) == {
        "bleu": pytest.approx(100),
        "chrf": pytest.approx(100),
    }


def test_ids_are_filled_up():
    assert padded([[1, 2], [3]]).tolist() == [[1, 2], [3, -100]]
    assert padded([]).shape == (0, 0)
