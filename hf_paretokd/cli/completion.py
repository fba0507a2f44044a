"""`paretokd completion`: the words of all commands for a shell, made by shtab."""

import argparse
import sys
from argparse import Namespace
from typing import Any

from hf_paretokd.cli.parser import Parser

SHELLS = ("bash", "zsh", "tcsh")


def completion_options(parser: Parser) -> None:
    """Of `paretokd completion`."""
    parser.option("what", "shell", choices=SHELLS, help='such as: eval "$(paretokd completion bash)"; one of')


def completion(options: Namespace, _: list[str]) -> None:
    """`paretokd completion`."""
    import shtab

    sys.stdout.write(f"{shtab.complete(whole_parser(), options.shell)}\n")


def whole_parser() -> argparse.ArgumentParser:
    """All commands with all their options, as argparse knows them."""
    from hf_paretokd.cli.main import COMMANDS

    root: Any = argparse.ArgumentParser("paretokd")
    commands = root.add_subparsers(parser_class=parser_of)  # its type wants a class
    for name, command in COMMANDS.items():
        if " " not in name:  # kinds of a command are words of it
            command.load()[0](commands.add_parser(name, help=command.summary))
    return root


def parser_of(prog: str) -> Parser:
    """A parser as `add_subparsers` makes them."""
    return Parser(prog.removeprefix("paretokd "), "", "")
