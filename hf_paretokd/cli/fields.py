"""Fields of recipes on the command line: which there are, and whether words name some."""

import dataclasses
from collections.abc import Iterable, Sequence

from hf_paretokd.cli.parser import HELP, UsageError, unknown
from hf_paretokd.methods import registry
from hf_paretokd.runs.describe import described_fields
from hf_paretokd.runs.recipe import SECTIONS


def check_fields(words: Sequence[str], options: Iterable[str], sections: Sequence[str] = ()) -> None:
    """Checks that every `--name` among some words is a field.

    Args:
        words: those that were no options of the command.
        options: the command's own, which may have been meant.
        sections: whose fields mean something there; none for all.

    Raises:
        UsageError: one is none; says which was probably meant.
    """
    known = known_fields(sections)
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name not in known:
            raise UsageError(unknown("option or field", name, [*options, *known]))


def known_fields(sections: Sequence[str] = ()) -> list[str]:
    """The fields of some sections as options, of all and of the training if none are named."""
    kinds = {section: SECTIONS[section] for section in sections}
    training: set[str] = set()
    if not sections:
        methods = {name: registry.trainer_of(name).config_class for name in registry.method_names()}
        kinds = {**SECTIONS, **methods}
        training = {field.name for kind in methods.values() for field in dataclasses.fields(kind)}
    found = [f"--{section}.{field.name}" for section, kind in kinds.items() for field in dataclasses.fields(kind)]
    found += [f"--{prefix}{name}" for prefix in ("", "training.") for name in sorted(training)]
    return found if sections else ["--method", *found]


def all_fields(words: Sequence[str], sections: Sequence[str] = ()) -> str:
    """Every field of some sections (default: of all, and of the training), with the values of a recipe if one is named."""
    given = [word for word in words if word not in HELP]
    named = next((word for word in given if not word.startswith("-")), None) if not sections else None
    return described_fields(named, [word for word in given if word != named] if named else (), sections)
