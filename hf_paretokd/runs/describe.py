"""Every field that a recipe may have, in groups, with what it is here and what it is for."""

import dataclasses
import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainingArguments

from hf_paretokd.methods import registry
from hf_paretokd.runs.fields import field_defaults
from hf_paretokd.runs.recipe import SECTIONS, Recipe, load_recipe, method_section, override
from hf_paretokd.training.contract import HONOURED
from hf_paretokd.utils.docstrings import argument_texts
from hf_paretokd.utils.text import screen_width


def described_fields(path: str | Path | None, words: Sequence[str] = (), sections: Sequence[str] = ()) -> str:
    """All fields of a recipe, or of none in particular, with overrides: the package's own first.

    Args:
        path: a recipe, whose values are shown; None for the defaults of a method.
        words: overrides; `--method` chooses whose fields are shown.
        sections: which are shown; default: all, and the training.

    Raises:
        RecipeError: the recipe cannot be read, or an override does not fit.
    """
    raw: dict[str, Any] = {}
    if path is None:
        override(raw, words, "command line")
        method = method_section(raw)
    else:
        recipe: Recipe = load_recipe(path, words, trainable=False)
        raw, method = recipe.raw, recipe.method
    head = f"every field with what it is in {path}:" if path else "every field with its default, if it has one:"
    return "\n\n".join((head, *(text for text in groups(raw, method, sections) if text)))


def groups(raw: dict[str, Any], method: str, sections: Sequence[str]) -> Iterator[str]:
    """The groups: those of sections, what the package adds to training, what it honours of the Trainer's."""
    for name in sections or SECTIONS:
        kind = SECTIONS[name]
        yield group(f"{name}: --{name}.FIELD", f"--{name}.", kind, raw.get(name) or {}, set(field_defaults(kind)))
    if sections:
        return
    kind, given = registry.trainer_of(method).config_class, {**(raw.get("training") or {}), **(raw.get(method) or {})}
    theirs = set(field_defaults(Seq2SeqTrainingArguments))
    own = {field.name for field in dataclasses.fields(kind)} - theirs
    yield group(f"training, {method}: --FIELD", "--", kind, given, own)
    yield group("training, of the Trainer: --FIELD", "--", kind, given, theirs & set(HONOURED))


def write_value(value: Any) -> str:
    """A value as it is given on the command line."""
    if isinstance(value, list):
        return " ".join(map(write_value, value))
    return str(value).lower() if isinstance(value, bool) else json.dumps(value) if isinstance(value, dict) else str(value)


def group(title: str, prefix: str, kind: type, given: dict[str, Any], names: set[str]) -> str:
    """One group: a line a field with its value, and its text below."""
    texts, defaults = argument_texts(kind), field_defaults(kind)
    width, lines = screen_width(), [title]
    for field in dataclasses.fields(kind):
        if field.name not in names:
            continue
        value = given.get(field.name, defaults[field.name])
        shown = "" if value in (None, [], {}) else f" {write_value(value)}"
        text = " ".join((texts.get(field.name) or field.metadata.get("help", "")).replace("%%", "%").split())
        lines.append(f"  {prefix}{field.name}{shown}")
        lines += textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines) if len(lines) > 1 else ""
