"""Words of a command line: the options people use in `--help`, all in `--help-all`, and what was probably meant."""

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from hf_paretokd.utils.text import screen_width

HELP = ("-h", "--help", "--help-all")


class UsageError(Exception):
    """Words that say nothing: exit code 2, and where help is."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help that fits the terminal, options in one column."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=screen_width())


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
        self.greedy: list[str] = []  # those of them that take several words

    def option(self, group: str, *names: str, rare: bool = False, **options: Any) -> None:
        """Adds an option, or a positional argument, to a group; its default is shown where it has one, and what it may be."""
        text, default = options.get("help", ""), options.get("default")
        if choices := options.get("choices"):
            text = options["help"] = f"{text}: {', '.join(choices)}"
            options.setdefault("metavar", "NAME")
        if default not in (None, False, [], ()) and "default" not in text:
            shown = " ".join(map(str, default)) if isinstance(default, list) else default
            options["help"] = f"{text} (default: {shown})"
        if group not in self.groups:
            self.groups[group] = self.add_argument_group(group)
        action = self.groups[group].add_argument(*names, **options)
        optional = [name for name in names if name.startswith("-")]
        self.known += optional
        self.greedy += optional if options.get("nargs") == "+" else []
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
            return self.known_words(words, self.parse_known_args)
        options, rest = self.known_words(words, self.parse_known_intermixed_args)
        if rest and rest[0].startswith("-"):
            raise UsageError(unknown("option", rest[0], self.known))
        if rest:
            raise UsageError(f"{rest[0]!r} is a word too many")
        return options, []

    def known_words(self, words: Sequence[str], parse: Callable[..., Any]) -> tuple[argparse.Namespace, list[str]]:
        """As argparse parses; an option that takes all words after it is named where one of them is missing elsewhere."""
        try:
            return parse(words)
        except UsageError as error:
            greedy = [name for name in words if name in self.greedy]
            if greedy and "required" in str(error):
                raise UsageError(f"{error}; {greedy[0]} takes all words after it, so put it last") from error
            raise

    def error(self, message: str) -> NoReturn:
        """Raises a UsageError with what argparse says."""
        raise UsageError(message)


def whole(text: str) -> int:
    """A whole number, as the type of an option."""
    try:
        found = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}") from error
    if abs(found) > sys.maxsize:
        raise argparse.ArgumentTypeError(f"{text!r} is more than can be counted")
    return found


def positive(text: str) -> int:
    """A whole number from 1 on, as the type of an option."""
    if not text.isdecimal() or whole(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 or more")
    return int(text)


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """That there is no such command, option or field, and which one was probably meant."""
    near = difflib.get_close_matches(word.partition("=")[0], list(known), 1)
    return f"no {kind} {word.partition('=')[0]}" + (f"; did you mean {near[0]}?" if near else "")
