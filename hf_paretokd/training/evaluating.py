"""Validation in training: cross-entropies of pairs and depths, and what is said about the translations; prediction."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import datasets
import torch
from torch import Tensor
from transformers import EarlyStoppingCallback, PreTrainedModel
from transformers.trainer_utils import PredictionOutput

from hf_paretokd.data.batches import PairBatches
from hf_paretokd.data.encoding import Pairs, as_pairs
from hf_paretokd.data.sampling import build_pair_batches
from hf_paretokd.errors import DataError, TrainingError
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.joint import JointModel
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.training.generation import GeneratingTrainer, padded
from hf_paretokd.training.parts import check_best_metric, check_prefix
from hf_paretokd.training.validation import metrics_of_peers, validation_sums
from hf_paretokd.utils.machine import moved


class EvaluatingTrainer(GeneratingTrainer):
    """A trainer that measures its models on validation text: `evaluate` and `predict`."""

    eval_batches: Mapping[str, PairBatches]
    given: dict[str, Any]  # to the trainer, when it was made
    checked: Callable[[Pairs], None]

    def validation_depths(self) -> Sequence[Depth]:
        """The depths whose mean cross-entropy selects the model."""
        return (model_depth(self.model.main_model),)

    def figure_names(self) -> list[str]:
        """What `evaluate` will find out."""
        depths = self.validation_depths()
        nothing = [torch.ones(len(self.eval_pairs), len(depths), 3) for _ in self.model.named_models()]
        known = metrics_of_peers(nothing, list(self.eval_pairs), depths)
        return list(known | self.generation_names() if self.args.predict_with_generate else known)

    def cross_entropies(
        self, model: PreTrainedModel, pairs: Pairs, batches: Mapping[str, PairBatches], depths: Sequence[Depth]
    ) -> Tensor:
        """`validation_sums` of one of the models over all processes."""
        was_training = model.training
        moved(model, self.args.device).eval()
        smoothing = (self.args.label_smoothing_factor, self.args.label_smoothing_variant)
        with self.accelerator.autocast():
            sums = validation_sums(model, pairs, batches, depths, *smoothing, self.args.process_index, self.args.world_size)
        model.train(was_training)
        return self.accelerator.reduce(sums.to(self.args.device), reduction="sum").cpu()

    def pair_losses(self, model: PreTrainedModel, depths: Sequence[Depth], smoothed: bool = False) -> dict[str, float]:
        """Validation cross-entropy a token of every pair of the training, the mean over depths; with or without smoothing."""
        pairs = {name: self.eval_pairs[name] for name in self.train_pairs}
        sums = self.cross_entropies(model, pairs, self.eval_batches, depths)
        return dict(zip(pairs, (sums[..., 0 if smoothed else 1] / sums[..., 2]).mean(1).tolist(), strict=True))

    def check_validated(self) -> None:
        """Raises a DataError if a pair cannot be validated."""
        for name in self.train_pairs:
            if name not in self.eval_pairs:
                raise DataError(
                    f"{name}: has training but no validation text, by which this method decides; add validation text or leave "
                    "the pair out"
                )

    def evaluate(
        self,
        eval_dataset: datasets.Dataset | Pairs | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        """Validation cross-entropies in nats per token, with the label smoothing of training (`nll`: without).

        Returns:
            `eval_loss`, the mean over pairs of the mean over depths (AIO Eq. 9); `eval_nll`; `eval_loss_E-D` for every
            depth and `eval_loss_xx-yy` for every pair, if there are several. With `predict_with_generate` also what
            `compute_metrics` finds out of the translations of the whole models (teacher, model, peers): `eval_bleu`, the mean
            over pairs, `eval_bleu_xx-yy` …. Several peers have all of these each, as `eval_peer1_loss` …, and the names without
            a peer hold the means over peers.

        Raises:
            DataError: there is no text.
            TrainingError: `gen_kwargs` holds more than `num_beams` and `max_length`.
        """
        if eval_dataset is None and self.eval_dataset is not self.given["eval_dataset"]:
            eval_dataset = self.eval_dataset  # it was set since the trainer was made
        pairs = self.eval_pairs if eval_dataset is None else as_pairs(eval_dataset)
        if not pairs:
            raise DataError("validation needs an eval_dataset")
        if eval_dataset is not None:
            self.checked(pairs)
        if gen_kwargs and not self.args.predict_with_generate:
            raise TrainingError(f"{next(iter(gen_kwargs))}: nothing is translated; set predict_with_generate")
        check_prefix(metric_key_prefix)
        with self.whole_models() as joint:
            figures = self.losses(joint, pairs, self.eval_batches if eval_dataset is None else None)
            if self.args.predict_with_generate:
                figures |= self.generation_metrics(pairs, self.translations(joint, pairs, gen_kwargs))
        if self.between_updates:
            check_best_metric(self.args, list(figures))
            self.check_figure(figures)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        due = self.control.should_log, self.control.should_evaluate, self.control.should_save
        ending = self.control.should_training_stop
        self.log(metrics)
        with nullcontext() if self.between_updates else self.patient():
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.between_updates and self.control.should_training_stop and not ending:
            self.stopped_by_validation()
        if not self.between_updates:  # asked for by a callback: what was due is still to be done
            self.control.should_log, self.control.should_evaluate, self.control.should_save = due
        return metrics

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Without early stopping in the block: a validation that is not the training's own says nothing of its progress."""
        handler, everyone = self.callback_handler, self.callback_handler.callbacks
        handler.callbacks = [each for each in everyone if not isinstance(each, EarlyStoppingCallback)]
        try:
            yield
        finally:
            handler.callbacks = everyone

    def check_figure(self, figures: Mapping[str, float]) -> None:
        """Raises a TrainingError if the figure that decides which checkpoint is best is no number."""
        name = (self.args.metric_for_best_model or "").removeprefix("eval_")
        if name and self.args.eval_strategy != "no" and math.isnan(figures[name]):
            raise TrainingError(
                f"metric_for_best_model: {name} is nan after update {self.state.global_step}, so that nothing can be best; "
                f"choose another figure; the last whole checkpoint is {self.last_checkpoint()}"
            )

    def losses(self, joint: JointModel, pairs: Pairs, batches: Mapping[str, PairBatches] | None = None) -> dict[str, float]:
        """The cross-entropies of text by whole models, as `evaluate` names them."""
        depths = self.validation_depths()
        batches = batches or build_pair_batches(pairs, self.args.max_tokens)
        sums = [self.cross_entropies(model, pairs, batches, depths) for _, model in joint.named_models()]
        return metrics_of_peers(sums, list(pairs), depths)

    def predict(
        self,
        test_dataset: datasets.Dataset | Pairs,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
        **gen_kwargs: Any,
    ) -> PredictionOutput:
        """Translations of token ids by the first model (teacher, model or first peer), whatever `predict_with_generate` says.

        Args:
            test_dataset: `input_ids` of one pair, or a dictionary of them; with `labels` there are figures, too.
            ignore_keys: taken for compatibility, without effect.
            metric_key_prefix: of the figures' names.
            gen_kwargs: `num_beams` and `max_length`.

        Returns:
            `predictions` and `label_ids` [rows, longest], filled up with -100, pair after pair; and `metrics`, as `evaluate`
            finds them out.

        Raises:
            DataError, TrainingError: as `evaluate`.
        """
        check_prefix(metric_key_prefix)
        pairs = as_pairs(test_dataset, ("input_ids",))
        if not pairs:
            raise DataError("predict needs a test_dataset")
        self.checked(pairs)
        labelled = all("labels" in dataset.column_names for dataset in pairs.values())
        with self.whole_models() as joint:
            made = self.translations(joint, pairs, gen_kwargs)
            losses = self.losses(joint, pairs) if labelled else {}
        labels, metrics = None, {}
        if labelled:
            labels = padded(row for dataset in pairs.values() for row in dataset["labels"])
            figures = losses | self.generation_metrics(pairs, made)
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, metrics)
        return PredictionOutput(padded(row for name in pairs for row in made[0][name]), labels, metrics)

    def stopped_by_validation(self) -> None:
        """Called when a validation ends the training for want of progress, as by `EarlyStoppingCallback`."""
