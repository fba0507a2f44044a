"""A server of its own process: a socket, the application, an orderly end."""

import socket
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from transformers.utils import logging

from hf_paretokd.errors import ModelError, OptionError

logger = logging.get_logger(__name__)
PACKAGES = ("fastapi", "uvicorn", "prometheus_client")
PATIENCE = 30  # seconds that requests have to be finished when the server is asked to stop


def check_installed() -> None:
    """Raises a ModelError if one of the packages is missing."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ModelError(f"{missing[0]} is not installed (pip install 'hf_paretokd[serve]')")


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OptionError: somebody else does, or there is no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)  # two that bind to one port at the same time would both have it until then
    except (OSError, OverflowError) as error:
        listening.close()
        raise OptionError(
            f"--port {port}: cannot be had on {host} ({getattr(error, 'strerror', None) or error}); give another port or host"
        ) from error
    return listening


def serve(
    exports: Sequence[Path],
    host: str = "127.0.0.1",
    port: int = 5000,
    api_key: str | None = None,
    num_beams: int = 1,
    max_tokens: int = 4096,
    max_waiting: int = 10_000,
    max_lines: int = 1000,
    max_characters: int = 100_000,
    timeout: float = 60.0,
    say: Callable[[str], None] = logger.warning,
) -> None:
    """Serves exports until it is asked to stop; requests that it has then are finished.

    Args:
        exports: folders that `paretokd export --to ctranslate2` wrote.
        host, port: where it listens.
        api_key: that requests have to name.
        num_beams: 1 for greedy search.
        max_tokens: source tokens in a batch, padding included.
        max_waiting: sentences that may wait.
        max_lines, max_characters: of a request.
        timeout: seconds that a request may take.
        say: told where it listens, when it does.

    Raises:
        ServingError, ModelError, OptionError: an export cannot be served, a package is missing, the port is taken.
    """
    check_installed()
    import uvicorn

    from hf_paretokd.serving.app import Limits, build_app
    from hf_paretokd.serving.models import Models

    listening = bound(host, port)
    models = Models.load(exports, num_beams, max_tokens, max_waiting)
    app = build_app(models, Limits(max_lines, max_characters, timeout, api_key))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=PATIENCE, backlog=2048, ws="none"
    )
    place = f"[{host}]" if ":" in host else host
    say(f"{', '.join(map(str, models.served))} at http://{place}:{listening.getsockname()[1]}/translate")
    server = uvicorn.Server(config)
    app.state.stopping = lambda: server.should_exit
    server.run(sockets=[listening])
