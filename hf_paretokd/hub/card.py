"""Model cards, filled from the template in `model_cards/`: metadata by the Hub's own classes, text from measured figures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import jinja2
import langcodes
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_paretokd.data.languages import UNTOLD, Direction
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.errors import UploadError

TEMPLATE = "student.md"
UNNAMED = "THIS_MODEL"
TITLES = {"bleu": "BLEU", "chrf": "chrF", "comet": "COMET"}


@dataclass(frozen=True)
class MethodFacts:
    """What cards, reports and the Hub say of a training method.

    Args:
        title: its name in prose.
        tag: its tag on the Hub; none for ordinary training.
        prose: a sentence about how the models were trained.
        papers: the papers it comes from, as BibTeX entries.
    """

    title: str
    tag: str | None = None
    prose: str | None = None
    papers: Sequence[str] = ()


@dataclass(frozen=True)
class ModelScore:
    """A figure measured on this very model, `metric` being `bleu`, `chrf`, `comet` …; the interval is that of 95 %."""

    pair: str
    metric: str
    value: float
    signature: str
    low: float | None = None
    high: float | None = None

    @property
    def title(self) -> str:
        """The metric as it is written."""
        return TITLES.get(self.metric, self.metric)

    @property
    def interval(self) -> dict[str, list[float]]:
        """The interval as a model index has it, if there is one."""
        if self.low is None or self.high is None:
            return {}
        return {"confidence_interval_95": [round(self.low, 2), round(self.high, 2)]}

    @property
    def text(self) -> str:
        """`35.8 (34.4–37.0)`, in the digits usual for the metric."""
        value = f"{self.value:.4f}" if self.metric == "comet" else f"{self.value:.1f}"
        return value if self.low is None else f"{value} ({self.low:.1f}–{self.high:.1f})"


@dataclass(frozen=True)
class CardTable:
    """A table of a card."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class CardFacts:
    """What is known about a model when its card is written; what is empty is left out.

    Args:
        depth: `6-2`.
        teacher_depth: depth of the teacher it was sliced from.
        method: how it was trained.
        parameters: their number.
        pairs: language pairs.
        tags: target tags.
        told: what else the model is told of the first pair.
        language: what `told` makes of `generate`: an argument and the token that is its value.
        model_type: architecture, as `config.json` has it.
        longest: text in tokens that the model takes and makes.
        repository: where the model can be loaded from.
        subfolder: of that repository.
        license, base_model, datasets: for the metadata, as Hub ids.
        languages: those of the pairs by ISO 639 or BCP 47, where the pairs have other codes.
        scores: figures of this model on `test_name`, decoded as `decoding` says.
        notes: sentences below the scores.
        tests: differences from other models.
        family: all models of the training.
        protocol: how the family's latencies were measured.
        signature: of the training.
        training: titles and values about the training.
        limitations: sentences.
        example: a source text for the snippets.
    """

    depth: str
    teacher_depth: str
    method: MethodFacts
    parameters: int
    pairs: Sequence[LanguagePair] = ()
    tags: Sequence[str] = ()
    told: Direction = UNTOLD
    language: tuple[str, str] | None = None
    model_type: str = "marian"
    longest: int | None = None
    repository: str = UNNAMED
    subfolder: str | None = None
    license: str | None = None
    base_model: str | None = None
    datasets: Sequence[str] = ()
    languages: Sequence[str] = ()
    scores: Sequence[ModelScore] = ()
    test_name: str = ""
    decoding: str = ""
    notes: Sequence[str] = ()
    tests: CardTable | None = None
    family: CardTable | None = None
    protocol: str = ""
    signature: str | None = None
    training: Sequence[tuple[str, str]] = ()
    limitations: Sequence[str] = field(default=("It was scored on nothing yet.",))
    example: str = "…"

    @property
    def score_table(self) -> CardTable:
        """A row for every pair, a column for every metric."""
        metrics = list(dict.fromkeys(score.title for score in self.scores))
        cells = {(score.pair, score.title): score.text for score in self.scores}
        pairs = dict.fromkeys(score.pair for score in self.scores)
        return CardTable(["pair", *metrics], [[pair, *(cells.get((pair, each), "") for each in metrics)] for pair in pairs])

    @property
    def signatures(self) -> list[tuple[str, str]]:
        """Each metric with the signature of its figures."""
        return list(dict.fromkeys((score.title, score.signature) for score in self.scores))

    @property
    def title(self) -> str:
        """The heading: what is translated, and the depth."""
        what = ", ".join(map(str, self.pairs)) if len(self.pairs) < 4 else f"{len(self.pairs)} language pairs"
        return f"Translation model {self.depth}" + (f", {what}" if what else "")


def card_languages(pairs: Sequence[LanguagePair], named: Sequence[str] = ()) -> tuple[list[str], list[str], list[str]]:
    """The languages of some pairs as the Hub has them; `named` stand for those of the pairs.

    Returns:
        ISO 639 codes, shortest form; BCP 47 tags of what has a script or territory as well, such as `zh-Hant`; and codes that
        are no language's.
    """
    codes, tags, unknown = set(), set(), []
    for each in named or sorted({code for pair in pairs for code in (pair.source, pair.target)}):
        text = each.replace("_", "-")
        if not langcodes.tag_is_valid(text):
            unknown.append(each)
            continue
        language = langcodes.Language.get(text)
        codes.add(str(language.language))
        if language.script or language.territory:
            tags.add(language.to_tag())
    return sorted(codes), sorted(tags), unknown


def check_card_languages(pairs: Sequence[LanguagePair], named: Sequence[str] = ()) -> None:
    """Raises an UploadError if the Hub would not take a card because a language has no ISO 639 code."""
    unknown = card_languages(pairs, named)[2]
    if unknown:
        raise UploadError(
            f"language {unknown[0]!r}: is no ISO 639 code, which the Hub's cards need; name the languages in card.languages, "
            "such as [de, en]"
        )


def license_of(card: Path) -> str | None:
    """The license that a model's own card states; None if there is no card, or it states none."""
    if not card.is_file():
        return None
    found = ModelCard.load(card, ignore_metadata_errors=True).data.license
    return found if isinstance(found, str) else None


def card_data(facts: CardFacts) -> ModelCardData:
    """The metadata of a card, with a model-index entry for every score."""
    results = [
        EvalResult(
            task_type="translation",
            task_name=f"Translation {score.pair}",
            dataset_type=facts.datasets[0] if facts.datasets else "parallel-text",
            dataset_name=f"{facts.test_name} ({score.pair})",
            dataset_config=score.pair,  # what tells the entries apart
            metric_type=score.metric,
            metric_name=score.title,
            metric_value=round(score.value, 4 if score.metric == "comet" else 2),
            metric_args={"signature": score.signature, **score.interval},
        )
        for score in facts.scores
    ]
    codes, bcp47, _ = card_languages(facts.pairs, facts.languages)
    tags = ["translation", facts.model_type, "paretokd"]
    if facts.method.tag:
        tags.append(facts.method.tag)
    return ModelCardData(
        language=codes or None,
        language_bcp47=bcp47 or None,
        license=facts.license,
        library_name="transformers",
        pipeline_tag="translation",
        tags=tags,
        base_model=facts.base_model,
        datasets=list(facts.datasets) or None,
        metrics=list(dict.fromkeys(score.metric for score in facts.scores)) or None,
        model_name=facts.title if results else None,
        eval_results=results or None,
    )


def render_card(facts: CardFacts) -> str:
    """The README.md of a checkpoint."""
    template = files("hf_paretokd.model_cards").joinpath(TEMPLATE).read_text("utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
    place = f'"{facts.repository}"'
    inside = f' + "/{facts.subfolder}"' if facts.subfolder else ""
    return environment.from_string(template).render(
        facts=facts,
        card_data=card_data(facts).to_yaml(),
        arguments=place + (f', subfolder="{facts.subfolder}"' if facts.subfolder else ""),
        download=f"snapshot_download({place}){inside}",
        example=json.dumps((f"{facts.tags[0]} " if facts.tags else "") + facts.example, ensure_ascii=False),
        whole_example=json.dumps(
            (f"{facts.tags[0]} " if facts.tags else facts.told.before) + facts.example, ensure_ascii=False
        ),
        codes=f', src_lang="{facts.told.src_lang}", tgt_lang="{facts.told.tgt_lang}"' if facts.language else "",
        version=version("hf_paretokd"),
    )
