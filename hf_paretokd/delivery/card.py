"""Short model cards, filled from the template in `model_cards/`."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files

import jinja2

from hf_paretokd.data.pairs import LanguagePair

TEMPLATE = "student.md"


@dataclass(frozen=True)
class CardFacts:
    """What is known about a model when its card is written.

    `scores` are lines `(pair, metric, value, signature)` measured on this very model; empty if nothing was measured.
    """

    depth: str
    teacher_depth: str
    method: str
    parameters: int
    pairs: Sequence[LanguagePair] = ()
    tags: Sequence[str] = ()
    scores: Sequence[tuple[str, str, float, str]] = ()


def render_card(facts: CardFacts) -> str:
    """The README.md of a checkpoint."""
    template = files("hf_paretokd.model_cards").joinpath(TEMPLATE).read_text("utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
    languages = sorted({code for pair in facts.pairs for code in (pair.source, pair.target)})
    return environment.from_string(template).render(facts=facts, languages=languages, version=version("hf_paretokd"))
