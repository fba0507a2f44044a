"""Uploads of plain checkpoints to the Hub: one commit each, retried within bounds, continued where they stopped."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import tenacity
from huggingface_hub import CommitOperationAdd, HfApi, get_session
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from tqdm.auto import tqdm

from hf_paretokd.errors import UploadError
from hf_paretokd.layout import CARD, PLAIN_CHECKPOINT, TOKENIZER_SETTINGS
from hf_paretokd.models.files import portable_settings
from hf_paretokd.models.member import Member

ATTEMPTS, FIRST_WAIT, LONGEST_WAIT, TIMEOUT = 4, 1.0, 20.0, 60.0  # seconds
TRANSIENT = (408, 409, 429, 500, 502, 503, 504)  # 409: another commit came between
Result = TypeVar("Result")


@dataclass(frozen=True)
class Upload:
    """A checkpoint (None: only a card) and where it goes: a repository `user/name`, or a folder inside it; and its card."""

    folder: Path | None
    repository: str
    card: str
    path_in_repo: str = ""

    @property
    def name(self) -> str:
        """`user/name` or `user/name/6-2`."""
        return f"{self.repository}/{self.path_in_repo}".rstrip("/")

    def operations(self) -> Iterator[CommitOperationAdd]:
        """The files to be added: weights, configuration, tokenizer and card, nothing that tells of this machine."""
        place = f"{self.path_in_repo}/" if self.path_in_repo else ""
        found = {path for pattern in PLAIN_CHECKPOINT for path in self.folder.glob(pattern)} if self.folder else set()
        for path in sorted(found):
            private = path.name == TOKENIZER_SETTINGS  # transformers notes in it where it was loaded from
            content = portable_settings(path.read_text("utf-8")).encode() if private else str(path)
            yield CommitOperationAdd(place + path.name, content)
        yield CommitOperationAdd(place + CARD, self.card.encode())


def repository_of(to: str, member: Member) -> str:
    """The repository of one of a training's models: `user/name-6-2`, `user/name-peer-1`, or `user/name` for a lone one."""
    return f"{to}-{member.suffix}" if member.suffix else to


def check_names(repositories: Sequence[str]) -> None:
    """Raises an UploadError if a repository cannot have such a name."""
    for name in repositories:
        try:
            validate_repo_id(name)
            fine = name.count("/") == 1
        except HFValidationError:
            fine = False
        if not fine:
            raise UploadError(f"{name!r} is no name for a repository; give user/name (--to, or hub_model_id in a training)")


def push(
    uploads: Sequence[Upload],
    private: bool = True,
    token: str | None = None,
    message: str = "Upload by hf_paretokd",
    timeout: float = TIMEOUT,
    first_wait: float = FIRST_WAIT,
    again: str = "the same command",
) -> list[str]:
    """Creates or updates the repositories, one commit for every upload; what is there already is not sent again.

    Args:
        uploads: what goes where.
        private: whether new repositories are private; those that exist stay as they are.
        token: of the Hub; default: the one that `hf auth login` or HF_TOKEN gave.
        message: of the commits.
        timeout: seconds to wait for an answer.
        first_wait: seconds before the second attempt; it doubles from one attempt to the next.
        again: what goes on where this was cut off.

    Returns:
        The addresses of the commits.

    Raises:
        UploadError: an answer stayed away or was a refusal, after at most four attempts; says what is done and how to go on.
    """
    check_names([upload.repository for upload in uploads])
    api = HfApi(token=token)
    done: list[str] = []
    made: set[str] = set()
    for upload in (bar := tqdm(uploads, desc="pushing", unit=" models", disable=None)):
        bar.set_postfix_str(upload.name)
        try:
            if upload.repository not in made:
                create = partial(api.create_repo, upload.repository, private=private, exist_ok=True)
                persistently(create, timeout, first_wait)
                made.add(upload.repository)
            commit = persistently(partial(commit_upload, api, upload, message), timeout, first_wait)
        except Exception as error:
            reason = refusal(error)
            if reason is None:
                raise
            finished = f"{len(done)} of {len(uploads)} models are uploaded; {again} goes on from there"
            raise UploadError(f"{upload.name}: {reason}; {finished}") from error
        done.append(commit)
    return done


def commit_upload(api: HfApi, upload: Upload, message: str) -> str:
    """Sends what has changed in one commit and returns its address."""
    return str(api.create_commit(upload.repository, list(upload.operations()), commit_message=message).commit_url)


def persistently(action: Callable[[], Result], timeout: float, first_wait: float) -> Result:
    """Tries an action up to four times, as long as the Hub's trouble may pass."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(transient),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(first_wait, max=LONGEST_WAIT),
        reraise=True,
    )
    for trial in retrying:
        with trial, patience(timeout):
            return action()
    raise AssertionError("the last attempt returns or raises")


def status_of(error: BaseException) -> int | None:
    """The HTTP status the Hub answered with."""
    return getattr(getattr(error, "response", None), "status_code", None) if isinstance(error, HfHubHTTPError) else None


def is_transport(error: BaseException) -> bool:
    """Whether no answer came: time-outs and lost connections, as every HTTP library under the client calls them."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"TransportError", "TimeoutError", "ConnectionError"}) and not isinstance(error, OfflineModeIsEnabled)


def transient(error: BaseException) -> bool:
    """Whether another attempt may help."""
    return status_of(error) in TRANSIENT or is_transport(error)


def refusal(error: Exception) -> str | None:
    """What to tell the user, or None for an error that is not the Hub's."""
    status = status_of(error)
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        return "not logged in, or the token is not valid (401); run `hf auth login` or set HF_TOKEN"
    if status == 403:
        return "the token may not write there (403); use one with write access, or another user/name"
    if status is not None:
        reason = " ".join(str(error).split())
        return f"the Hub answered {status} ({reason[:200]})" + (f", {ATTEMPTS} times" if status in TRANSIENT else "")
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it to upload"
    if is_transport(error):
        return f"no answer from the Hub after {ATTEMPTS} attempts ({type(error).__name__})"
    if isinstance(error, ValueError) and "metadata" in str(error):
        return f"the Hub does not take the card ({' '.join(str(error).split())}); see the section card of the recipe"
    return None


@contextmanager
def patience(timeout: float) -> Iterator[None]:
    """Bounds the wait for an answer, which the client leaves open."""
    session = get_session()
    before, session.timeout = session.timeout, timeout
    try:
        yield
    finally:
        session.timeout = before
