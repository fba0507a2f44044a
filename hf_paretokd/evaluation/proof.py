"""The proof that a converted model, or one with a smaller vocabulary, does what the original does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.languages import UNTOLD, Direction, generation_arguments, target_token
from hf_paretokd.evaluation.significance import LEVEL, paired_bootstrap
from hf_paretokd.inference.ctranslate import Decoder
from hf_paretokd.inference.decoding import decode_all, decoder_of, encode_sources
from hf_paretokd.models.files import usable_length
from hf_paretokd.models.trimming import Kept, named
from hf_paretokd.utils.text import one_line

TIE = 1e-4  # two tokens whose log-probabilities are closer may change places
LARGEST_LOSS, ENOUGH = 0.3, 1000  # BLEU points that quantization may cost on so many sentences or more


@dataclass(frozen=True)
class Sentences:
    """Test text in one target language: sources, references, and what the model is told of all of them."""

    language: str
    sources: Sequence[str]
    references: Sequence[str]
    direction: Direction = UNTOLD


@dataclass(frozen=True)
class Difference:
    """A sentence on which the engines part ways: before which target token, and how close the two best were there."""

    source: str
    original: str
    converted: str
    position: int
    gap: float


@dataclass(frozen=True)
class QuantizationLoss:
    """BLEU of the converted model in float32 and quantized, and the p-value of their paired bootstrap test."""

    language: str
    sentences: int
    float32: float
    quantized: float
    p_value: float
    signature: str

    @property
    def acceptable(self) -> bool:
        """At most 0.3 BLEU lost on 1,000 sentences or more; on fewer, nothing significant."""
        lost = round(self.float32 - self.quantized, 6)  # so that 30.0 - 29.7 is 0.3
        return lost <= LARGEST_LOSS if self.sentences >= ENOUGH else lost <= 0 or self.p_value >= LEVEL


@dataclass
class Proof:
    """What was compared: greedy output of every sentence in float32, and BLEU of the quantized model."""

    quantization: str
    sentences: int = 0
    equal: int = 0
    ties: list[Difference] = field(default_factory=list)
    broken: list[Difference] = field(default_factory=list)
    losses: list[QuantizationLoss] = field(default_factory=list)
    bytes: int = 0  # of the weights
    pairs: dict[str, str] = field(default_factory=dict)  # that the model translates, and their tags

    @property
    def problem(self) -> str | None:
        """Why the export fails, or None."""
        if self.broken:
            worst = max(self.broken, key=lambda each: each.gap)
            return (
                f"float32 output differs from generate's in {len(self.broken)} of {self.sentences} sentences without a tie, "
                f"such as {worst.source!r} (two best tokens {worst.gap:.4f} apart before token {worst.position + 1})"
            )
        for loss in self.losses:
            if not loss.acceptable:
                return (
                    f"{self.quantization} loses {loss.float32 - loss.quantized:.2f} BLEU on {loss.sentences} sentences "
                    f"(p = {loss.p_value:.3f}); take another quantization, such as int8_float32 or float32"
                )
        return None


def prove(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sentences],
    converted: Mapping[str, Decoder],
    quantization: str,
) -> Proof:
    """Compares greedy output in float32 sentence by sentence, and BLEU of another quantization.

    Args:
        model, tokenizer: the original.
        texts: what is translated.
        converted: what decodes with the converted model in `float32`, and in the quantization.
        quantization: that of the export.
    """
    proof, limit = Proof(quantization), usable_length(model.config, tokenizer)
    decoders = {"generate": decoder_of(model, tokenizer, "transformers"), **converted}
    for text in texts:
        ids, start = encode_sources(tokenizer, text.sources, limit, text.direction), beginning(model, tokenizer, text.direction)
        found = {
            name: decode_all(decoder, ids, limit, description=name, direction=text.direction)
            for name, decoder in decoders.items()
        }
        proof.sentences += len(ids)
        for row, source in enumerate(ids):
            ours, theirs = (bare(found[name][row], start, model) for name in ("generate", "float32"))
            if ours == theirs:
                proof.equal += 1
                continue
            position = next(step for step in range(len(ours) + 1) if ours[: step + 1] != theirs[: step + 1])
            before, after = (str(tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in (ours, theirs))
            gap = gap_before(model, source, [*start, *ours[:position]])
            difference = Difference(text.sources[row], before, after, position, gap)
            (proof.ties if difference.gap <= TIE else proof.broken).append(difference)
        if quantization != "float32":
            lines = {
                name: list(map(one_line, tokenizer.batch_decode(found[name], skip_special_tokens=True)))
                for name in ("float32", quantization)
            }
            proof.losses.append(quantization_loss(lines, quantization, text))
    return proof


def quantization_loss(lines: Mapping[str, Sequence[str]], quantization: str, text: Sentences) -> QuantizationLoss:
    """BLEU of both models and the test between them."""
    test = paired_bootstrap(lines, text.references, text.language)
    scores = test.scores["bleu"]
    return QuantizationLoss(
        text.language,
        len(text.references),
        scores["float32"].value,
        scores[quantization].value,
        test.p_values["bleu"][quantization],
        scores[quantization].signature,
    )


def beginning(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, direction: Direction = UNTOLD) -> list[int]:
    """What the decoder has read before the first word: the token it starts from, and that of the language if there is one."""
    token, config = target_token(tokenizer, direction), model.config
    start = generation_arguments(tokenizer, direction).get("decoder_start_token_id", config.decoder_start_token_id)
    return [start] if token in (None, start) else [start, token]


def bare(ids: Sequence[int], start: Sequence[int], model: PreTrainedModel) -> list[int]:
    """Target ids without what they start with, all of it or the language alone, and what follows the last word."""
    words = list(ids)
    for first in (list(start), list(start[1:])):
        if words[: len(first)] == first:
            words = words[len(first) :]
            break
    end = model.config.eos_token_id
    return words[: words.index(end)] if end in words else words


@torch.inference_mode()
def gap_before(model: PreTrainedModel, source: list[int], prefix: list[int]) -> float:
    """Difference in log-probability of the two best tokens after all that the decoder has read, `<pad>` aside."""
    target = torch.tensor([prefix], device=model.device)
    logits = model(input_ids=torch.tensor([source], device=model.device), decoder_input_ids=target).logits[0, -1]
    logits[model.config.pad_token_id] = -torch.inf
    best = logits.float().log_softmax(-1).topk(2).values
    return (best[0] - best[1]).item()


@dataclass
class TrimmingProof:
    """Greedy output of a model with a smaller vocabulary, sentence by sentence beside the original's.

    Args:
        sentences: how many were translated.
        equal: those whose output is the same.
        resegmented: those whose source used a piece that went, and is written by others now.
        rechosen: those that part ways where the original output used a piece that went.
        ties: those that part ways where two tokens are as good as equal.
        broken: all others, which there must not be.
        dropped: pieces that went and that sources or original outputs used, with how often.
    """

    sentences: int = 0
    equal: int = 0
    resegmented: int = 0
    rechosen: int = 0
    ties: list[Difference] = field(default_factory=list)
    broken: list[Difference] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def problem(self) -> str | None:
        """Why the smaller model is not the original, or None."""
        if not self.broken:
            return None
        worst = max(self.broken, key=lambda each: each.gap)
        return f"{len(self.broken)} of {self.sentences} sentences come out otherwise without a reason, such as {worst.source!r}"


def prove_trimming(
    original: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    trimmed: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    kept: Kept,
    sources: Sequence[str],
) -> TrimmingProof:
    """Compares greedy output of sentences; sources carry their tags."""
    model, tokenizer = original
    limit = usable_length(model.config, tokenizer)
    old = encode_sources(tokenizer, sources, limit)
    new = encode_sources(trimmed[1], sources, limit)
    same = [row for row in range(len(old)) if [kept.source[each] for each in new[row]] == old[row]]
    proof = TrimmingProof(len(old), resegmented=len(old) - len(same))
    known = set(kept.source), set(kept.target)
    used = Counter[int](), Counter[int]()  # ids that went, of both sides
    for row in set(range(len(old))) - set(same):
        used[0].update(each for each in old[row] if each not in known[0])
    outputs: list[list[list[int]]] = []
    for (each, words), ids in zip((original, trimmed), (old, new), strict=True):
        decoder = decoder_of(each, words, "transformers")
        outputs.append(decode_all(decoder, [ids[row] for row in same], limit, description="comparing") if same else [])
    start = [beginning(*each) for each in (original, trimmed)]
    for row, ours, theirs in zip(same, *outputs, strict=True):
        ours, theirs = bare(ours, start[0], model), [kept.target[each] for each in bare(theirs, start[1], trimmed[0])]
        if ours == theirs:
            proof.equal += 1
            continue
        position = next(step for step in range(len(ours) + 1) if ours[: step + 1] != theirs[: step + 1])
        if ours[position : position + 1] and ours[position] not in known[1]:
            proof.rechosen += 1
            used[1][ours[position]] += 1
        else:
            before, now = (str(tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in (ours, theirs))
            found = Difference(sources[row], before, now, position, gap_before(model, old[row], [*start[0], *ours[:position]]))
            (proof.ties if found.gap <= TIE else proof.broken).append(found)
    proof.dropped = dict((named(tokenizer, used[0], False) + named(tokenizer, used[1], True)).most_common())
    return proof
