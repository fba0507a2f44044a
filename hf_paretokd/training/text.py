"""The text of a training: its micro-batches, and the stream of them that each peer draws."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
from transformers.utils import logging

from hf_paretokd.data.batches import PairBatches
from hf_paretokd.data.changing import SHARE, SHARES, ChangingSampling, FunctionSampling, phases_of, scheduled
from hf_paretokd.data.encoding import Pairs, as_pairs
from hf_paretokd.data.facts import target_length
from hf_paretokd.data.sampling import (
    Batches,
    MicroBatchStream,
    PairDistribution,
    SamplerState,
    SamplingRow,
    TemperatureSampling,
    UniMaxSampling,
    expected_sampling,
)
from hf_paretokd.data.streams import StreamBatches
from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.layout import SAMPLER_STATE
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.utils.files import load_json, save_json

logger = logging.get_logger(__name__)


class TrainingText:
    """What is trained on: `pairs`; `streams`, one a peer, and where they stand, `states`.

    `micro_batches` are M of an update, over all processes; `updates_per_pass` is what sampling at τ = 1 takes to see all text
    once (of text that is read as a stream the whole training is one pass); `updates` is how long the training is.

    Args:
        pairs: token ids by pair.
        args: the configuration.
        sampling: from the share of the training that is done, and sizes, to shares of pairs, in place of temperatures.
        checked: raises a DataError where the models cannot be trained on token ids.

    Raises:
        DataError, TrainingError: the text and the configuration do not fit together.
    """

    def __init__(
        self, pairs: Pairs, args: TranslationConfig, sampling: SHARES | None, checked: Callable[[Pairs], None]
    ) -> None:
        self.pairs, self.args, self.sampling, self.checked = pairs, args, sampling, checked
        self.streamed = [name for name, each in pairs.items() if isinstance(each, datasets.IterableDataset)]
        checked({name: each for name, each in pairs.items() if name not in self.streamed})
        batches = self.batches()
        self.micro_batches = args.gradient_accumulation_steps * args.world_size
        if self.streamed and args.max_steps <= 0:
            raise TrainingError(f"max_steps: {self.streamed[0]} is a stream, whose length nobody knows; say how many updates")
        whole = args.max_steps * self.micro_batches
        count = whole if self.streamed else sum(each.count or 0 for each in batches.values())
        self.updates_per_pass = count / self.micro_batches
        wanted = math.ceil(args.num_train_epochs * self.updates_per_pass) if count else 0
        self.updates = args.max_steps if args.max_steps > 0 else wanted
        self.streams = [
            MicroBatchStream(
                {name: each.rekeyed(args.seed, peer) for name, each in batches.items()},
                self.distribution(peer, batches),
                args.seed,
                peer,
            )
            for peer in range(len(args.temperatures))
        ]
        self.states = [SamplerState() for _ in self.streams]

    def batches(self) -> dict[str, Batches]:
        """The micro-batches of every pair."""
        found: dict[str, Batches] = {}
        for name, text in self.pairs.items():
            if isinstance(text, datasets.IterableDataset):
                found[name] = StreamBatches(name, text, self.args.max_tokens, self.args.stream_buffer, self.checked_rows)
            else:
                found[name] = PairBatches(name, text, self.args.max_tokens)
        if self.streamed:
            logger.warning(
                f"{', '.join(self.streamed)}: read as a stream; passes are not counted, repeated sentences are not found, and "
                "the signature of the training says nothing of its text"
                + ("; all pairs are drawn alike, whatever the temperature" if len(found) > 1 else "")
            )
        return found

    def checked_rows(self, name: str, rows: datasets.Dataset) -> datasets.Dataset:
        """Some rows of a stream as they are trained on.

        Raises:
            DataError: the models cannot be trained on them.
        """
        found = as_pairs({name: rows})
        self.checked(found)
        return found[name]

    def distribution(self, peer: int, batches: Mapping[str, Batches]) -> PairDistribution:
        """By what a peer (counted from 0) draws language pairs from their micro-batches."""
        args, micro_batches = self.args, self.updates * self.micro_batches
        epochs = args.unimax_epochs[peer] if args.unimax_epochs else 0.0
        if epochs:
            self.check_passes("unimax_epochs")
        sizes = {name: 1 if self.streamed else each.sentences or 0 for name, each in batches.items()}
        if self.sampling is not None and batches:
            return FunctionSampling(self.sampling, sizes, micro_batches)
        if args.sampling_schedule and batches:
            return scheduled(phases_of(args.sampling_schedule), sizes, args.temperatures[peer], micro_batches)
        if epochs and batches:
            tokens = {name: target_length(each) for name, each in self.pairs.items()}
            return UniMaxSampling(tokens, {name: each.count or 0 for name, each in batches.items()}, micro_batches, epochs)
        still = TemperatureSampling(sizes, args.temperatures[peer])
        if args.samplers and args.samplers[peer] != "none" and batches:
            return ChangingSampling(args.samplers[peer], [(0, still.probabilities(SamplerState()))])
        return still

    def check_passes(self, field: str) -> None:
        """Raises a TrainingError if a field counts in passes over text that has none."""
        if self.streamed:
            raise TrainingError(
                f"{field}: needs passes over the text, and {self.streamed[0]} is a stream, whose length nobody knows; give the "
                "text as a datasets.Dataset" + (", or a number of updates" if field == "update_interval" else "")
            )

    def expected(self, updates: int) -> list[SamplingRow]:
        """What every peer is expected to see of every pair."""
        return expected_sampling(self.streams, updates * self.micro_batches)

    def shares(self, update: int) -> dict[str, float]:
        """P(ℓ) of every peer whose distribution changes, as the log names it."""
        found: dict[str, float] = {}
        for peer, stream in enumerate(self.streams, 1):
            if isinstance(stream.distribution, ChangingSampling | FunctionSampling):
                prefix = f"peer{peer}_" if len(self.streams) > 1 else ""
                shares = stream.distribution.probabilities(SamplerState(update * self.micro_batches))
                found |= {f"{prefix}{SHARE}{name}": round(share, 6) for name, share in shares.items()}
        return found

    def deciding(self) -> dict[str, Any]:
        """What of it decides a training, beside sentences and temperatures."""
        args, rows = self.args, [rows for stream in self.streams for each in stream.pairs.values() if (rows := each.window)]
        found: dict[str, Any] = {"rows of a window": max(rows)} if rows else {}
        found |= {"sampling_schedule": args.sampling_schedule} if args.sampling_schedule else {}
        found |= {"sampling": getattr(self.sampling, "__name__", type(self.sampling).__name__)} if self.sampling else {}
        return found | ({"stream_buffer": args.stream_buffer} if self.streamed else {})

    def advance(self, update: int) -> None:
        """Moves on to where an update begins."""
        number = update * self.micro_batches
        self.states = [stream.advance(state, number) for stream, state in zip(self.streams, self.states, strict=True)]

    def save(self, folder: Path) -> None:
        """Writes where the streams stand, and the states of their distributions, into a checkpoint."""
        saved = [
            {
                **asdict(state),
                "distribution": stream.distribution.state_dict(),
                **({"streams": places} if (places := stream.places(state)) else {}),
            }
            for stream, state in zip(self.streams, self.states, strict=True)
        ]
        save_json(saved, folder / SAMPLER_STATE)

    def load(self, folder: Path) -> None:
        """Takes up what `save` has written; raises what `read` raises."""
        self.states = self.read(folder)

    def read(self, folder: Path) -> list[SamplerState]:
        """Where the streams stood at a checkpoint; their distributions are put into the states that they were in.

        Raises:
            ModelError: the file is missing or damaged.
            TrainingError: the distributions are others than those of the checkpoint.
        """
        path = folder / SAMPLER_STATE
        saved = load_json(path)
        if not isinstance(saved, list) or len(saved) != len(self.streams):
            raise ModelError(f"{path}: is not the state of {len(self.streams)} streams; take another checkpoint")
        try:
            states = [SamplerState(each["number"], each["draws"]) for each in saved]
            distributions = [each["distribution"] for each in saved]
        except (KeyError, TypeError) as error:
            raise ModelError(f"{path}: cannot be read ({error!r}); take another checkpoint") from error
        for stream, state, each in zip(self.streams, distributions, saved, strict=True):
            stream.distribution.load_state_dict(state)
            stream.go_to(each.get("streams", {}))
        return states

    def check_position(self, folder: Path, update: int) -> None:
        """Raises a TrainingError unless a checkpoint's updates took as many micro-batches."""
        position = self.read(folder)[0].number
        if position != update * self.micro_batches:
            raise TrainingError(
                f"{folder}: its updates took {position / max(update, 1):g} micro-batches each, now "
                f"they would take {self.micro_batches} (processes × gradient_accumulation_steps); keep the product as it was"
            )


def check_sampling(function: SHARES | None, args: TranslationConfig) -> SHARES | None:
    """The function that says from which pairs to draw, if there is one.

    Raises:
        TrainingError: it is none, or something else says so, too.
    """
    if function is None:
        return None
    if not callable(function):
        raise TrainingError("sampling: is no function; give one from the share that is done, and sizes, to shares of pairs")
    if args.samplers or args.sampling_schedule or any(args.unimax_epochs or []):
        raise TrainingError("sampling: says how pairs are drawn; leave out samplers, sampling_schedule and unimax_epochs")
    return function
