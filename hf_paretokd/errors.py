"""Errors a user can cause and can mend: one line that says where and what to do."""

from collections.abc import Callable

from rich.console import Console


class ParetoKDError(Exception):
    """Base of every error this library raises on purpose; the command line prints it without a traceback."""


class DataError(ParetoKDError):
    """A corpus file, line or field cannot be used."""


class TokenizerError(ParetoKDError):
    """A tokenizer cannot be built, loaded or used for this text."""


class RecipeError(ParetoKDError):
    """A recipe file or an option has an unknown name or an impossible value."""


class ModelError(ParetoKDError):
    """A model, depth or checkpoint cannot be used."""


class TrainingError(ParetoKDError):
    """Training cannot start or cannot go on."""


class TrainingInterrupted(TrainingError):
    """Training was asked to stop, has saved and can be resumed."""


class ExportError(ParetoKDError):
    """A converted model does not do what the original does."""


class UploadError(ParetoKDError):
    """The Hub refuses an upload or cannot be reached."""


INTERRUPTED = 75  # the exit code of an interrupted training: EX_TEMPFAIL, try again


def reported(action: Callable[[], None]) -> int:
    """Runs `action` and returns an exit code; errors of this library are printed in one line."""
    try:
        action()
    except ParetoKDError as error:
        Console(stderr=True).print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return INTERRUPTED if isinstance(error, TrainingInterrupted) else 1
    return 0
