"""Errors a user can cause and can mend: one line that says where and what to do."""


class ParetoKDError(Exception):
    """Base of every error this library raises on purpose; the command line prints it without a traceback."""


class DataError(ParetoKDError):
    """A corpus file, line or field cannot be used."""


class TokenizerError(ParetoKDError):
    """A tokenizer cannot be built, loaded or used for this text."""


class RecipeError(ParetoKDError):
    """A recipe file or an option has an unknown name or an impossible value."""


class OptionError(RecipeError):
    """A word of the command line says nothing, or has a value of the wrong type."""


class ModelError(ParetoKDError):
    """A model, depth or checkpoint cannot be used."""


class TrainingError(ParetoKDError):
    """Training cannot start or cannot go on."""


class TrainingInterrupted(TrainingError):
    """Training was asked to stop by a signal, has saved and can be resumed."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class FolderReadOnly(TrainingError):
    """The folder of a run can be read but not written, so that what was found out is not kept."""


class ExportError(ParetoKDError):
    """A converted model does not do what the original does."""


class ServingError(ParetoKDError):
    """A server cannot start, or a request cannot be answered."""


class UploadError(ParetoKDError):
    """The Hub refuses an upload or cannot be reached."""
