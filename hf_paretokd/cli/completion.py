"""`paretokd completion`: the words of all commands for a shell, made by shtab."""

import argparse
import sys
from argparse import Namespace
from typing import Any

from hf_paretokd.cli.parser import Parser

SHELLS = ("bash", "zsh", "tcsh")


def completion_options(parser: Parser) -> None:
    """Of `paretokd completion`."""
    parser.option("what", "shell", metavar="SHELL", choices=SHELLS, help='such as: eval "$(paretokd completion bash)"; one of')


def completion(options: Namespace, _: list[str]) -> None:
    """`paretokd completion`."""
    import shtab

    sys.stdout.write(f"{shtab.complete(whole_parser(), options.shell)}\n")


def whole_parser() -> argparse.ArgumentParser:
    """All commands with all their options, as argparse knows them."""
    from hf_paretokd.cli.fields import known_fields
    from hf_paretokd.cli.main import COMMANDS

    root: Any = argparse.ArgumentParser("paretokd")
    kinds: dict[str, Any] = {"": root.add_subparsers(parser_class=parser_of)}  # of commands; its type wants a class
    parsers: dict[str, Any] = {}
    for name, command in COMMANDS.items():
        above, _, kind = name.rpartition(" ")
        if above not in kinds:
            kinds[above] = parsers[above].add_subparsers(parser_class=parser_of)
        parsers[name] = kinds[above].add_parser(kind, help=command.summary)
        command.load()[0](parsers[name])
        for field in known_fields(parsers[name].sections) if parsers[name].fields else ():
            if field not in parsers[name].known:
                parsers[name].add_argument(field)
    return root


def parser_of(prog: str) -> Parser:
    """A parser as `add_subparsers` makes them."""
    return Parser(prog.removeprefix("paretokd "), "", "")
