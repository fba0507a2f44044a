"""Validation text translated by the models in training: `predict_with_generate` and `predict`."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import datasets
import numpy as np
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from hf_paretokd.data.batches import IGNORED
from hf_paretokd.data.encoding import Pairs
from hf_paretokd.data.languages import UNTOLD, Direction, asked, coded_directions, language_codes
from hf_paretokd.errors import TrainingError
from hf_paretokd.evaluation.metrics import PairPrediction, TranslationMetrics
from hf_paretokd.inference.decoding import decode_all, decoder_of
from hf_paretokd.models.files import usable_length
from hf_paretokd.models.joint import JointModel
from hf_paretokd.training.arguments import LOSSES
from hf_paretokd.training.push import PushingTrainer
from hf_paretokd.training.validation import merged_figures
from hf_paretokd.utils.machine import moved


class GeneratingTrainer(PushingTrainer):
    """A trainer that translates validation text where `predict_with_generate` asks for it.

    Every whole model translates: a teacher, a model, each of the peers; students are scored when the training is over.
    """

    compute_metrics: Any
    eval_pairs: dict[str, datasets.Dataset]

    def decoding(self, given: Mapping[str, Any]) -> tuple[int, int]:
        """(beams, longest output) of what is translated; `given` beats the arguments, these the model's own configuration.

        Raises:
            TrainingError: something else is given, or there is no tokenizer.
        """
        if self.processing_class is None:
            raise TrainingError("predict_with_generate: translations need the tokenizer; give it as processing_class")
        for name, least in (("num_beams", 1), ("max_length", 2)):
            value = given.get(name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise TrainingError(f"{name}: {value!r} is not a whole number of {least} or more")
        if unknown := set(given) - {"num_beams", "max_length"}:
            raise TrainingError(f"{sorted(unknown)[0]}: translations take num_beams and max_length, and nothing else")
        model = self.model.main_model
        beams = (
            given.get("num_beams") or self.args.generation_num_beams or getattr(model.generation_config, "num_beams", 1) or 1
        )
        longest = usable_length(model.config, self.processing_class)
        wanted = given.get("max_length") or self.args.generation_max_length or longest
        if wanted > longest:
            raise TrainingError(
                f"generation_max_length, max_length: {wanted} is more than the {longest} tokens the model takes"
            )
        return beams, wanted

    def translated(
        self, model: PreTrainedModel, dataset: datasets.Dataset, beams: int, longest: int, direction: Direction
    ) -> list[list[int]]:
        """Target ids of every row, made by all processes together."""
        rank, processes = self.args.process_index, self.args.world_size
        sources = dataset["input_ids"][rank::processes]
        was_training = model.training
        moved(model, self.args.device).eval()
        decoder = decoder_of(model, self.processing_class, "transformers")
        made = decode_all(decoder, sources, longest, beams, self.args.max_tokens, direction=direction)
        model.train(was_training)
        shares = [made] if processes == 1 else gather_object([made])
        return [shares[row % processes][row // processes] for row in range(len(dataset))]

    def translations(self, joint: JointModel, pairs: Pairs, given: Mapping[str, Any]) -> list[dict[str, list[list[int]]]]:
        """Target ids of every pair by every whole model."""
        beams, longest = self.decoding(given)
        return [
            {name: self.translated(model, dataset, beams, longest, self.direction(name)) for name, dataset in pairs.items()}
            for model in joint.models()
        ]

    def direction(self, name: str) -> Direction:
        """What the models are told of a data set that is named after its language pair; its sources hold the rest already."""
        tokenizer = self.processing_class
        if not language_codes(tokenizer):
            return UNTOLD
        return next(iter(coded_directions(tokenizer, [name]).values()), None) or asked(tokenizer, {})

    def generation_metrics(self, pairs: Pairs, translations: Sequence[Mapping[str, list[list[int]]]]) -> dict[str, float]:
        """What `compute_metrics` finds out (default: BLEU and chrF), on average over pairs, and of each; the same of peers."""
        compute = self.compute_metrics or TranslationMetrics(self.processing_class)
        found = []
        for made in translations:
            by_pair = {
                name: checked_figures(compute(PairPrediction(padded(made[name]), padded(dataset["labels"]), name)))
                for name, dataset in pairs.items()
            }
            first = next(iter(by_pair.values()))
            if any(each.keys() != first.keys() for each in by_pair.values()):
                raise TrainingError("compute_metrics: returned other figures for one pair than for another; give all of each")
            figures = {metric: float(np.mean([each[metric] for each in by_pair.values()])) for metric in first}
            if len(by_pair) > 1:
                figures |= {f"{metric}_{name}": each[metric] for name, each in by_pair.items() for metric in first}
            found.append(figures)
        merged = merged_figures(found)
        if clash := next((name for name in merged if LOSSES.search(name)), None):
            raise TrainingError(f"compute_metrics: {clash!r} is the name of a loss that validation finds out; choose another")
        return merged

    @property
    def figures_unknown(self) -> bool:
        """Whether only the first validation will tell which figures there are: those of a function of the user's."""
        return bool(self.args.predict_with_generate and self.compute_metrics and not hasattr(self.compute_metrics, "names"))

    def generation_names(self) -> dict[str, float]:
        """The names of the figures, as far as they are known beforehand: those of functions that say them."""
        names = getattr(self.compute_metrics or TranslationMetrics, "names", ())
        pairs = list(self.eval_pairs)
        own = [*names, *(f"{metric}_{pair}" for metric in names for pair in pairs if len(pairs) > 1)]
        return merged_figures([dict.fromkeys(own, 0.0) for _ in self.model.models()])


def checked_figures(found: Any) -> dict[str, float]:
    """Figures by their names, without the `eval_` that validation puts before them.

    Raises:
        TrainingError: there are none, or something is no number.
    """
    if not isinstance(found, Mapping) or not found:
        raise TrainingError(f"compute_metrics: returned {found!r}; return a dictionary of names and numbers")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Real) or isinstance(value, bool):
            raise TrainingError(f"compute_metrics: {name!r} is {value!r}; give text as names and one number each")
    return {name.removeprefix("eval_"): float(value) for name, value in found.items()}


def padded(rows: Iterable[Sequence[int]]) -> np.ndarray:
    """Ids as one array [rows, longest], filled up with -100."""
    listed = [list(row) for row in rows]
    filled = np.full((len(listed), max(map(len, listed), default=0)), IGNORED, dtype=np.int64)
    for place, row in zip(filled, listed, strict=True):
        place[: len(row)] = row
    return filled
