"""Words of a command line: the options people use in `--help`, all in `--help-all`, and what was probably meant."""

import argparse
import difflib
import shutil
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

HELP = ("-h", "--help", "--help-all")


class UsageError(Exception):
    """Words that say nothing: exit code 2, and where help is."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help that fits the terminal, options in one column."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=min(100, shutil.get_terminal_size().columns))


class Parser(argparse.ArgumentParser):
    """The options of one command.

    Args:
        command: its name, such as `bench serving`.
        usage: what has to be given.
        summary: what it does, in a sentence.
        fields: what fields of recipes do there, where they may be given.
    """

    def __init__(self, command: str, usage: str, summary: str, fields: str = "") -> None:
        super().__init__(
            f"paretokd {command}",
            " ".join(each for each in (f"paretokd {command}", usage, "[options]") if each),
            summary,
            formatter_class=Formatter,
            add_help=False,
            allow_abbrev=False,
        )
        self.fields = fields
        self.sections: tuple[str, ...] = ()  # of recipes, whose fields mean something there; none for all
        self.rare: dict[argparse.Action, str] = {}  # the help of options that --help leaves out
        self.groups: dict[str, Any] = {}
        self.known: list[str] = []  # the names of its options

    def option(self, group: str, *names: str, rare: bool = False, **options: Any) -> None:
        """Adds an option, or a positional argument, to a group; its default is shown where it has one, and what it may be."""
        text, default = options.get("help", ""), options.get("default")
        if choices := options.get("choices"):
            text = options["help"] = f"{text}: {', '.join(choices)}"
            options["metavar"] = "NAME"
        if default not in (None, False, [], ()) and "default" not in text:
            shown = " ".join(map(str, default)) if isinstance(default, list) else default
            options["help"] = f"{text} (default: {shown})"
        if group not in self.groups:
            self.groups[group] = self.add_argument_group(group)
        action = self.groups[group].add_argument(*names, **options)
        self.known += [name for name in names if name.startswith("-")]
        if rare:
            self.rare[action] = action.help or ""
            action.help = argparse.SUPPRESS

    def help_text(self, everything: bool = False) -> str:
        """What `--help` prints, or `--help-all`."""
        for action, text in self.rare.items():
            action.help = text if everything else argparse.SUPPRESS
        text = self.format_help()
        if not everything:
            text += f"\n{self.fields.rstrip()}\n" if self.fields else ""
            text += f"\nall options: {self.prog} --help-all\n" if self.rare or self.fields else ""
        return text

    def parsed(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """The options, and words for the fields of a recipe.

        Raises:
            UsageError: a word is none of these.
        """
        if self.fields:
            return self.parse_known_args(words)
        options, rest = self.parse_known_intermixed_args(words)
        if rest and rest[0].startswith("-"):
            raise UsageError(unknown("option", rest[0], self.known))
        if rest:
            raise UsageError(f"{rest[0]!r} is a word too many")
        return options, []

    def error(self, message: str) -> NoReturn:
        """Raises a UsageError with what argparse says."""
        raise UsageError(message)


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """That there is no such command, option or field, and which one was probably meant."""
    near = difflib.get_close_matches(word.partition("=")[0], list(known), 1)
    return f"no {kind} {word.partition('=')[0]}" + (f"; did you mean {near[0]}?" if near else "")
