"""Pages of the site that are made of the code when it is built: every command's help and every field of a recipe."""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from transformers import Seq2SeqTrainingArguments

from hf_paretokd.cli.main import COMMANDS
from hf_paretokd.cli.parser import Parser
from hf_paretokd.methods import registry
from hf_paretokd.runs.fields import field_defaults
from hf_paretokd.runs.recipe import SECTIONS
from hf_paretokd.training.contract import HONOURED
from hf_paretokd.utils.docstrings import argument_texts


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages, as MkDocs asks its hooks to."""
    os.environ["COLUMNS"] = "88"  # of the help
    for name, lines in {"commands.md": commands(), "fields.md": fields()}.items():
        files.append(File.generated(config, name, content="\n".join(lines) + "\n"))
    return files


def commands() -> Iterator[str]:
    """Every command with all its options."""
    yield "# Commands\n\nWhat `paretokd COMMAND --help-all` prints, without the fields of recipes ([here](fields.md))."
    for name, command in COMMANDS.items():
        declare, _ = command.load()
        parser = Parser(name, command.usage, command.summary)
        declare(parser)
        yield f"\n## paretokd {name}\n\n```\n{parser.help_text(everything=True).rstrip()}\n```"


def fields() -> Iterator[str]:
    """Every field of every section, with its default."""
    yield "# Every field of a recipe"
    yield "\nIn a file `section:` and `field: value`; on the command line `--section.field value`, those of `training` and of"
    yield "the method also as `--field value`. The fields of a method may stand in a section of its name, which lies idle when"
    yield "another method runs."
    for section, kind in SECTIONS.items():
        yield from table(f"`{section}`", kind, set(field_defaults(kind)))
    stock, of = set(field_defaults(Seq2SeqTrainingArguments)), {}
    for name in registry.method_names():
        kind = registry.trainer_of(name).config_class
        of[name] = kind, {field.name for field in dataclasses.fields(kind)} - stock
    common = set.intersection(*(names for _, names in of.values()))
    plain = registry.trainer_of("plain").config_class
    yield from table("`training`, of every method", plain, common)
    for name, (kind, names) in of.items():
        if own := names - common:
            yield from table(f"`training`, `method: {name}`", kind, own)
    yield from table("`training`, of the Trainer", plain, stock & set(HONOURED))
    yield "\nWhat becomes of all other arguments of the Trainer: [its contract](trainer.md)."


def table(title: str, kind: type[Any], names: set[str]) -> Iterator[str]:
    """One section: a row a field."""
    texts, defaults = argument_texts(kind), field_defaults(kind)
    yield f"\n## {title}\n\n| field | default | what it is |\n|---|---|---|"
    for field in dataclasses.fields(kind):
        if field.name not in names:
            continue
        shown = written(defaults[field.name])
        text = " ".join((texts.get(field.name) or str(field.metadata.get("help", ""))).split())
        yield f"| `{field.name}` | {shown} | {text.replace('|', chr(92) + '|')} |"


def written(default: Any) -> str:
    """A default as a recipe has it."""
    value = getattr(default, "value", default)  # of an enumeration
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
