"""The command line `paretokd`: words to calls of the library, what they return to `show`, errors to exit codes."""

import errno
import io
import logging
import os
import signal
import sys
import textwrap
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version

from hf_paretokd.cli.parser import HELP, Parser, UsageError, unknown
from hf_paretokd.errors import OptionError, ParetoKDError, TrainingInterrupted
from hf_paretokd.utils.text import screen_width

VERSION = "--version"
INTERRUPTED = 75  # the exit code of an interrupted training: EX_TEMPFAIL, try again
MISUSED = 2  # as argparse has it
FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk
CLOSED = 141  # as shells have it: 128 and the number of SIGPIPE
CTRL_C, TERMINATED = 130, 143  # as shells have it: 128 and the number of SIGINT, SIGTERM


@dataclass(frozen=True)
class Command:
    """A command: where it stands in the overview, what it says of itself, and the module that has it.

    The module has `NAME_options(parser)` and `NAME(options, fields)`, which returns an exit code or nothing; it is imported
    when the command is asked for.
    """

    group: str
    usage: str
    summary: str
    module: str
    name: str

    def load(self) -> tuple[Callable[[Parser], None], Callable[[Namespace, list[str]], int | None]]:
        """What declares its options, and what it does."""
        module = import_module(self.module)
        return getattr(module, f"{self.name}_options"), getattr(module, self.name)


TRAINING, LOOKING, USING, SERVING, COMPLETION, BENCHES = (
    f"hf_paretokd.cli.{name}" for name in ("training", "looking", "using", "serving", "completion", "benches")
)
COMMANDS = {
    "init": Command("train", "FOLDER|FILES", "Write a recipe that suits your text and this machine.", TRAINING, "init"),
    "train": Command("train", "RECIPE|RUN", "Train a recipe: text to scored students and a report.", TRAINING, "train"),
    "prepare": Command("train", "RECIPE", "Read, clean and encode a recipe's text before its training.", TRAINING, "prepare"),
    "demo": Command("train", "", "The same on an embedded corpus, with five minutes of training.", TRAINING, "demo"),
    "shrink": Command(
        "train",
        "MODEL --pairs PAIR … --output RUN",
        "Make a family of small models from a Marian model that exists.",
        TRAINING,
        "shrink",
    ),
    "distill": Command("train", "RUN|MODEL --output DIR", "Have a teacher translate text for its students.", USING, "distill"),
    "evaluate": Command("look", "RUN|MODEL", "Score a run, or any model, with BLEU and chrF.", LOOKING, "evaluate"),
    "students": Command("look", "RUN", "All models of a run: size, speed, scores.", LOOKING, "students"),
    "report": Command("look", "RUN", "Write report.html, its pictures and the cards anew.", LOOKING, "report"),
    "compare": Command("look", "RUN …", "Put runs side by side: intervals, paired tests, cost.", LOOKING, "compare"),
    "choose": Command("look", "RUN", "Name the model that fits a device.", LOOKING, "choose"),
    "extract": Command("use", "RUN|MODEL DEPTH … --output DIR", "Write students as plain checkpoints.", USING, "extract"),
    "translate": Command("use", "MODEL [FILE]", "Translate line by line; blank lines stay blank.", USING, "translate"),
    "export": Command(
        "use",
        "MODEL --to RUNTIME --output DIR",
        "Convert a model, and prove that it translates as before.",
        USING,
        "export",
    ),
    "serve": Command("use", "EXPORT … --port 5000", "Answer translation requests, as LibreTranslate does.", SERVING, "serve"),
    "push": Command("use", "RUN --to user/name", "Upload models to the Hub, each with its card.", USING, "push"),
    "completion": Command("use", "SHELL", "Print what makes a shell complete these words.", COMPLETION, "completion"),
    "bench": Command("measure", "", "What All-in-One KD costs on this machine, as ratios.", BENCHES, "training"),
    "bench methods": Command("measure", "", "What every method costs in plain steps.", BENCHES, "methods"),
    "bench pareto": Command("measure", "", "What a second peer and searches cost.", BENCHES, "pareto"),
    "bench options": Command("measure", "", "What bf16, torch_compile and the like are worth.", BENCHES, "options"),
    "bench data": Command("measure", "", "What preparing text takes, beside SentencePiece alone.", BENCHES, "data"),
    "bench server": Command("measure", "EXPORT --text FILE", "How fast a server answers many clients.", BENCHES, "server"),
    "bench serving": Command("measure", "[RUN]", "How fast a student translates by all that runs it.", BENCHES, "serving"),
}


def overview() -> str:
    """All commands, a line each."""
    width = screen_width()
    lines = ["usage: paretokd COMMAND …", ""]
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines.append(f"{group}:")
        for name, command in COMMANDS.items():
            if command.group == group:
                head = f"  {name} {command.usage.partition(' --')[0]}".rstrip()
                text = textwrap.wrap(command.summary, max(20, width - 30))
                lines.append(f"{head:<30}{text[0]}" if len(head) < 30 else f"{head}\n{'':30}{text[0]}")
                lines += [f"{'':30}{each}" for each in text[1:]]
        lines.append("")
    more = (
        "paretokd COMMAND --help says more, --help-all everything. Fields of a recipe are written --section.field value, those "
        "of its training --field value."
    )
    return "\n".join([*lines, *textwrap.wrap(more, width)])


def named(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command that the first words name, and the others.

    Raises:
        UsageError: there is no such command.
    """
    both = " ".join(words[:2])
    if both in COMMANDS:
        return both, list(words[2:])
    if words[0] not in COMMANDS:
        kind, known = ("option", (*HELP, VERSION)) if words[0].startswith("-") else ("command", COMMANDS)
        raise UsageError(unknown(kind, words[0], known))
    if any(name.startswith(f"{words[0]} ") for name in COMMANDS) and words[1:] and not words[1].startswith("-"):
        raise UsageError(unknown("command", both, COMMANDS))
    return words[0], list(words[1:])


def run(words: Sequence[str]) -> int:
    """Runs the command that some words name; its exit code."""
    name, rest = named(words)
    declare, act = COMMANDS[name].load()
    parser = Parser(name, COMMANDS[name].usage, COMMANDS[name].summary)
    declare(parser)
    asked = next((word for word in rest if word in HELP), None)
    if asked:
        sys.stdout.write(parser.help_text(asked == "--help-all"))
        if asked == "--help-all" and parser.fields:
            from hf_paretokd.cli.fields import all_fields

            sys.stdout.write(f"\n{all_fields(rest, parser.sections)}\n")
        return 0
    options, fields = parser.parsed(rest)
    if fields:
        from hf_paretokd.cli.fields import check_fields

        check_fields(fields, parser.known, parser.sections)
    return act(options, fields) or 0


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command; errors a user can mend are printed in one line, without a traceback.

    Args:
        words: the command and its words (default: those of the process).
    """
    words = list(sys.argv[1:] if words is None else words)
    make_writable()
    try:
        code = mended(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output has had enough, such as `head`
        silence()
        return CLOSED
    except OSError as error:  # of the disk: full, not to be written, a name that is too long
        silence()
        reason = error.strerror or str(error)
        advice = "; make room, or choose another place" if error.errno in FULL else ""
        sys.stderr.write(f"error: {error.filename or 'the output'}: cannot be used ({reason}){advice}\n")
        return 1


def make_writable() -> None:
    """Has what is printed go somewhere, also where a stream is closed or does not know a character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (as long as the process)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def silence() -> None:
    """What Python has not yet written of the output goes nowhere, or it would complain at the end."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def ended_in_order() -> Iterator[None]:
    """A request to stop leaves through the `with`, as Ctrl-C does, so that nothing unfinished is left; trainings see to it."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def check_words(words: Sequence[str]) -> None:
    """Raises a UsageError if a word, such as the name of a file, is no text: no recipe or card could hold it."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{word!a} holds bytes that are not UTF-8; rename the file, or give text") from error


def mended(words: Sequence[str]) -> int:
    """Runs one command; its exit code, also where it ends in an error of ours."""
    if not words or words[0] in HELP:
        sys.stdout.write(f"{overview()}\n")
        return 0 if words else MISUSED
    if words[0] == VERSION:
        sys.stdout.write(f"{version('hf_paretokd')}\n")
        return 0
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        logging.getLogger("hf_paretokd").setLevel(logging.ERROR)
    try:
        with ended_in_order():
            check_words(words)
            return run(words)
    except (UsageError, OptionError) as error:
        asked = next((f"{name} " for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), "")
        sys.stderr.write(f"error: {error} (paretokd {asked}--help)\n")
        return MISUSED
    except ParetoKDError as error:
        from hf_paretokd.cli import show

        show.error(str(error))
        if isinstance(error, TrainingInterrupted):
            return CTRL_C if error.signal == signal.SIGINT else INTERRUPTED
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped by Ctrl-C\n")
        return CTRL_C


if __name__ == "__main__":
    sys.exit(main())
