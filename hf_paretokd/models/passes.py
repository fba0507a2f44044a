"""Passes of models over views of one micro-batch: what a method wants run, and how little of it has to be."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_paretokd.losses import OutputHead
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.head import output_head
from hf_paretokd.models.mixing import mixed_inputs
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.models.states import depth_states


@dataclass(frozen=True)
class Filler:
    """What stands in the place of input embeddings that are cut.

    Args:
        entry: the vocabulary's entry whose embedding it is.
        spared: entries whose embeddings are never cut.
    """

    entry: int
    spared: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pass:
    """A model, or a slice of it, that looks at a micro-batch.

    Args:
        model: the whole model.
        weight: factor on the cross-entropy of the pass.
        depth: of the slice; None for the whole model.
        view: passes of one model with one view have the same dropout masks, so that they share prefixes; every other view has
            masks of its own.
        cut: probability with which an input embedding of the view, of the source or of the target's prefix, is cut.
        filler: what stands in its place then; None for zero.
        frozen: a constant, without gradient and, unless `dropout`, without dropout.
        dropout: whether a frozen model keeps its dropout.
        source: what stands before the names of the source's tensors; `cipher_` for that in cipher.
    """

    model: PreTrainedModel
    weight: float = 0.0
    depth: Depth | None = None
    view: int = 0
    cut: float = 0.0
    filler: Filler | None = None
    frozen: bool = False
    dropout: bool = False
    source: str = ""

    @property
    def work(self) -> "Pass":
        """The same without what makes no difference to the hidden states."""
        return replace(self, weight=0.0, depth=self.depth or model_depth(self.model))


def distinct(passes: Sequence[Pass]) -> tuple[list[Pass], list[int]]:
    """Passes whose work is the same are one, with the sum of their weights; and the position of each of the given ones."""
    weights: dict[Pass, float] = defaultdict(float)
    for each in passes:
        weights[each.work] += each.weight
    order = list(weights)
    return [replace(each, weight=weights[each]) for each in order], [order.index(each.work) for each in passes]


def run_passes(passes: Sequence[Pass], batch: Mapping[str, Any]) -> list[tuple[Tensor, OutputHead]]:
    """Hidden states [target tokens, width] and output head of every pass.

    Prefixes that passes of one view have in common are run once; views of a model that want the same depths are run as one
    larger batch.

    Args:
        passes: each with work of its own.
        batch: `input_ids`, `attention_mask` [rows, source] and `labels` [rows, target]; perhaps `mixing`.
    """
    wanted: dict[Pass, set[Depth]] = defaultdict(set)  # a view of a model, and the depths it is to be run in
    for each in passes:
        wanted[replace(each.work, depth=None)].add(each.depth or model_depth(each.model))
    alike: dict[tuple[Pass, frozenset[Depth]], list[Pass]] = defaultdict(list)  # views that differ in nothing but their masks
    heads: dict[tuple[PreTrainedModel, bool], OutputHead] = {}
    for view, depths in wanted.items():
        alike[replace(view, view=0, cut=0.0, filler=None), frozenset(depths)].append(view)
        if (view.model, view.frozen) not in heads:
            head = output_head(view.model)
            heads[view.model, view.frozen] = head.constant() if view.frozen else head
    found: dict[Pass, tuple[Tensor, OutputHead]] = {}
    for (kind, common), views in alike.items():
        with constant(kind.model, kind.dropout) if kind.frozen else nullcontext():
            cuts = [(view.cut, view.filler) for view in views]
            for depth, states in view_states(kind.model, with_source(batch, kind.source), common, cuts):
                for view, state in zip(views, states, strict=True):
                    found[replace(view, depth=depth)] = state, heads[kind.model, kind.frozen]
    return [found[each.work] for each in passes]


def with_source(batch: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """A micro-batch with the source that a pass looks at."""
    return {**batch, **{name: batch[source + name] for name in ("input_ids", "attention_mask")}}


def view_states(
    model: PreTrainedModel, batch: Mapping[str, Any], depths: Iterable[Depth], cuts: Sequence[tuple[float, Filler | None]]
) -> Iterator[tuple[Depth, Sequence[Tensor]]]:
    """`depth_states` of several views at once, as one batch of as many copies; each view is cut by its own rule."""
    count = len(cuts)
    copies = {name: torch.cat([batch[name]] * count) for name in ("input_ids", "attention_mask", "labels")}
    with cut_embeddings(model, cuts), mixed_inputs(model, batch.get("mixing")):
        for depth, states in depth_states(model, copies, depths):
            yield depth, states.chunk(count)


@contextmanager
def cut_embeddings(model: PreTrainedModel, cuts: Sequence[tuple[float, Filler | None]]) -> Iterator[None]:
    """Cuts input embeddings on both sides in the block, each by itself, by the probability and filler of the copy it is in."""

    def cut(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        size = len(output) // len(cuts)
        rates = torch.tensor([rate for rate, _ in cuts], device=output.device).repeat_interleave(size)
        kept = torch.rand(output.shape[:2], device=output.device) >= rates[:, None]
        copies = []
        for (_, filler), ids, copy, stays in zip(cuts, *(each.split(size) for each in (inputs[0], output, kept)), strict=True):
            if filler is None:
                copies.append(copy * stays[..., None])
            else:
                stays = stays | torch.isin(ids, ids.new_tensor(filler.spared))
                stands = module.forward(ids.new_tensor([filler.entry]))  # not through this hook again
                copies.append(torch.where(stays[..., None], copy, stands))
        return torch.cat(copies)

    active = any(rate for rate, _ in cuts)
    tables = {stack.embed_tokens for stack in (model.get_encoder(), model.get_decoder())} if active else set()
    handles = [table.register_forward_hook(cut) for table in tables]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def constant(model: PreTrainedModel, dropout: bool) -> Iterator[None]:
    """Leaves gradients aside in the block, and dropout unless it is to stay on."""
    was_training = model.training
    model.train(was_training and dropout)
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
