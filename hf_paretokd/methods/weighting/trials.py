"""Training a peer on trial: the measurements by which rules decide."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from hf_paretokd.data.changing import ChangingSampling
from hf_paretokd.data.sampling import MicroBatch, MicroBatchStream, PairDataset, SamplerState
from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.methods.weighting.snapshot import PeerSnapshot
from hf_paretokd.models.depth import Depth
from hf_paretokd.training.trainer import TranslationTrainer


class WeightedTrainer(TranslationTrainer):
    """A trainer of peers whose losses depend on distillation weights, one a peer and language pair."""

    def decision_depths(self) -> Sequence[Depth]:
        """The depths by whose losses weights are decided."""
        return self.validation_depths()

    def weighted_arguments(
        self, batches: Sequence[Mapping[str, Any] | None], weights: Sequence[Mapping[str, float] | None]
    ) -> dict[str, Any]:
        """What the joint model is called with to train with these weights; None for peers that stand still."""
        raise NotImplementedError


class PeerTrials:
    """`Measurements` on the peers of a running trainer; works in all processes at once and tells all of them the same.

    Args:
        trainer: its joint model takes None for the batches of peers that stand still.
        trial_updates: updates of a trial.
        smoothed: whether losses have the label smoothing of training.

    `seconds` adds up what trials, validations and copies took.
    """

    def __init__(self, trainer: WeightedTrainer, trial_updates: int, smoothed: bool) -> None:
        self.trainer, self.trial_updates, self.smoothed = trainer, trial_updates, smoothed
        self.seconds = {"trials": 0.0, "validations": 0.0, "copies": 0.0}

    @property
    def updates_per_pass(self) -> float:
        """Updates in which sampling at τ = 1 sees the corpus once."""
        return self.trainer.text.updates_per_pass

    def losses(self, peer: int) -> dict[str, float]:
        """Validation cross-entropy per token of every pair of the training."""
        trainer = self.trainer
        model = list(trainer.model.named_models())[peer][1]
        with self.timed("validations"):
            return trainer.pair_losses(model, trainer.decision_depths(), self.smoothed)

    def trials(self, peer: int, candidates: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
        """`losses` after a trial with each of the candidate weights.

        All trials begin at the peer as it is now and see the same micro-batches and dropout: a random sample of the
        peer's own distribution, drawn anew for every search.
        """
        trainer = self.trainer
        with self.timed("copies"):
            model = list(trainer.model.named_models())[peer][1]
            snapshot = PeerSnapshot(model, trainer.optimizer, trainer.lr_scheduler, trainer.accelerator.scaler)
        own, keys = trainer.text.streams[peer], (trainer.args.seed, peer, "trial", trainer.state.global_step)
        pairs = {name: batches.rekeyed(*keys) for name, batches in own.pairs.items()}
        now = own.distribution.probabilities(SamplerState(trainer.state.global_step * trainer.text.micro_batches))
        found = []
        for weights in candidates:
            sample = MicroBatchStream(pairs, ChangingSampling("trial", [(0, now)]), *keys)
            self.train(peer, self.share(sample, SamplerState()), [peer] * self.trial_updates, weights, "trial")
            found.append(self.losses(peer))
            with self.timed("copies"):
                snapshot.restore()
        return found

    def train_on_coming(self, peer: int, sources: Sequence[int], weights: Mapping[str, float]) -> None:
        """Trains a peer for good on the first updates to come; the schedule of the learning rate is put back.

        Args:
            peer: the peer that is trained.
            sources: for every update the peer whose stream it is taken from.
            weights: α of every pair.
        """
        trainer = self.trainer
        number = trainer.state.global_step * trainer.text.micro_batches
        coming = [
            self.share(stream, stream.advance(state, number))
            for stream, state in zip(trainer.text.streams, trainer.text.states, strict=True)
        ]
        position = trainer.lr_scheduler.state_dict()
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        self.train(peer, coming, sources, weights, "coming")
        trainer.lr_scheduler.load_state_dict(position)
        for group, rate in zip(trainer.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def share(self, stream: MicroBatchStream, state: SamplerState) -> Iterator[MicroBatch]:
        """Micro-batches of a stream that fall to the present process."""
        return stream.batches(state, self.trainer.args.process_index, self.trainer.args.world_size)

    def train(
        self,
        peer: int,
        streams: Iterator[MicroBatch] | Sequence[Iterator[MicroBatch]],
        sources: Iterable[int],
        weights: Mapping[str, float],
        purpose: str,
    ) -> None:
        """Updates one peer; the others teach and stand still."""
        with self.timed("trials"):
            count = self.trainer.args.gradient_accumulation_steps
            for source in sources:
                if isinstance(streams, Sequence):  # a discarded batch is drawn, too
                    drawn = [list(islice(stream, count)) for stream in streams][source]
                else:
                    drawn = list(islice(streams, count))
                self.update(peer, drawn, weights, purpose)

    def update(self, peer: int, drawn: Sequence[MicroBatch], weights: Mapping[str, float], purpose: str) -> None:
        """One update of one peer, as in training but outside the gradient synchronisation of accelerate."""
        trainer, model = self.trainer, self.trainer.model
        data = PairDataset(trainer.train_pairs, model.config.pad_token_id)
        samples: list[dict[str, Any]] = [{"number": each.number, "batches": [data.fetch(each)]} for each in drawn]
        (tokens,) = trainer.target_tokens(samples, trainer.args.device)
        peers = len(trainer.text.streams)
        model.train()
        for sample in samples:
            (batch,) = trainer.on_device(sample)["batches"]
            keys = (trainer.args.seed, peer, purpose, trainer.state.global_step)
            batches = one_of(peers, peer, batch)
            outputs = model(
                batches=batches,
                seeds=one_of(peers, peer, derive_seed(*keys, sample["number"])),
                **trainer.weighted_arguments(batches, one_of(peers, peer, weights)),
            )
            loss = outputs["losses"][peer] / tokens
            trainer.check_finite(loss, "loss of a trial")
            trainer.accelerator.backward(loss)
        parameters = [each for each in list(model.named_models())[peer][1].parameters() if each.grad is not None]
        sum_over_processes(parameters)
        trainer.clip_gradients([peer])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        model.zero_grad()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Adds the time of the block to `seconds`."""
        start = time.perf_counter()
        yield
        if self.trainer.args.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds[what] += time.perf_counter() - start


def one_of(count: int, place: int, value: Any) -> list[Any]:
    """A list of None with `value` in one place."""
    return [value if position == place else None for position in range(count)]


def sum_over_processes(parameters: Sequence[Tensor]) -> None:
    """Adds up gradients over all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch._utils._flatten_dense_tensors(gradients)
    torch.distributed.all_reduce(flat)
    for gradient, summed in zip(gradients, torch._utils._unflatten_dense_tensors(flat, gradients), strict=True):
        gradient.copy_(summed)
