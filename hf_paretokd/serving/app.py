"""The web application, in the shape of LibreTranslate's API."""

import asyncio
import hmac
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hf_paretokd.errors import DataError, ServingError, TokenizerError
from hf_paretokd.inference.lines import LineTranslator
from hf_paretokd.serving.batching import Overloaded
from hf_paretokd.serving.models import AUTO, Models, Served
from hf_paretokd.utils.text import cleaned

FORM = "application/x-www-form-urlencoded"
TRANSLATE = "/translate"
PATHS = (TRANSLATE, "/languages", "/health", "/metrics")
HUNG_UP = 499  # a status for the figures; nobody reads it
MANY = 4000  # characters
TICK = 0.1  # seconds between two looks whether the client is still there


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Args:
        lines: of text.
        characters: of text.
        seconds: that it may take.
        api_key: that it has to name, if there is one.
    """

    lines: int = 1000
    characters: int = 100_000
    seconds: float = 60.0
    api_key: str | None = None

    @property
    def bytes(self) -> int:
        """Of a body: every character may be escaped, as in a form."""
        return 12 * self.characters + 10_000


class Asked(BaseModel):
    """The fields of a request for a translation."""

    model_config = ConfigDict(extra="ignore", strict=True)

    q: str | list[str]
    source: str = AUTO
    target: str
    format: str = "text"
    api_key: str | None = None


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of the answer.
        message: what is wrong.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Figures:
    """What is counted for Prometheus."""

    def __init__(self, models: Models) -> None:
        self.registry = CollectorRegistry()
        known: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("paretokd_requests", "Requests by path and status", ["path", "status"], **known)
        self.seconds = Histogram("paretokd_request_seconds", "Seconds of a translation request", **known)
        self.lines = Counter("paretokd_lines", "Lines of text translated", **known)
        for name, text, count in (
            ("waiting", "Sentences that wait", lambda: sum(len(each.waiting) for each in models.batching)),
            ("batches", "Batches decoded", lambda: sum(each.batches for each in models.batching)),
            ("sentences", "Sentences decoded", lambda: sum(each.sentences for each in models.batching)),
        ):
            Gauge(f"paretokd_{name}", text, **known).set_function(count)


class Counted:
    """Middleware that counts requests by their answers."""

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        self.app, self.figures = app, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, path, status = time.perf_counter(), scope["path"], 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            self.figures.requests.labels(path if path in PATHS else "other", str(status)).inc()
            if path == TRANSLATE:
                self.figures.seconds.observe(time.perf_counter() - start)


def build_app(models: Models, limits: Limits) -> FastAPI:
    """The application.

    Args:
        models: what it translates.
        limits: of requests.
    """
    app, figures = FastAPI(title="paretokd", openapi_url=None), Figures(models)
    app.add_middleware(Counted, figures=figures)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return answer(error.status, error.message)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return answer(500, "the translation failed; the server's log says why")

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def unknown(request: Request, error: Any) -> Response:
        return answer(error.status_code, f"{request.method} {request.url.path}: there is nothing of that kind")

    @app.post(TRANSLATE)
    async def translate(request: Request) -> Response:
        asked = await read(request, limits)
        check_key(asked.api_key, limits.api_key)
        texts = [asked.q] if isinstance(asked.q, str) else asked.q
        check_size(texts, limits)
        if asked.format != "text":
            raise Refused(400, f"format: {asked.format!r} is not translated, only text")
        try:
            served = models.find(asked.source, asked.target)
        except ServingError as error:
            raise Refused(400, str(error)) from error
        lines = [line for text in texts for line in text.split("\n")]
        made = iter(await watched(request, limits.seconds, translated(served, lines)))
        figures.lines.inc(len(lines))
        found = ["\n".join(next(made) for _ in text.split("\n")) for text in texts]
        return JSONResponse({"translatedText": found[0] if isinstance(asked.q, str) else found})

    @app.api_route("/languages", methods=["GET", "POST"])  # clients of before post
    async def languages() -> list[dict[str, Any]]:
        targets: dict[str, list[str]] = {}
        for pair in models.served:
            targets.setdefault(pair.source, []).append(pair.target)
        return [{"code": code, "name": code, "targets": into} for code, into in targets.items()]

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def answer(status: int, message: str) -> Response:
    """What a client is told that asks for too much, or wrongly."""
    return JSONResponse({"error": message}, status, {"Retry-After": "1"} if status == 503 else None)


async def read(request: Request, limits: Limits) -> Asked:
    """The fields of a request, as JSON or as a form.

    Raises:
        Refused: it is too large, or says something else.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limits.bytes:
                raise Refused(413, f"the request has more than {limits.bytes:,} bytes")
    except ClientDisconnect as error:
        raise Refused(HUNG_UP, "gone") from error
    try:
        text = body.decode("utf-8")
        if request.headers.get("content-type", "").startswith(FORM):
            fields: Any = {name: values if len(values) > 1 else values[0] for name, values in parse_qs(text, True).items()}
        else:
            fields = json.loads(text)
        return Asked.model_validate(readable(fields))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:1]) or "the request"
        raise Refused(400, f"{where}: {first['msg'].lower()}; give q, source and target") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON
        raise Refused(400, "the request is neither JSON nor a form; give q, source and target") from error


def readable(value: Any) -> Any:
    """What was read, where text has no halves of characters, which JSON may name and nobody can write."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [readable(each) for each in value]
    return {name: readable(each) for name, each in value.items()} if isinstance(value, dict) else value


def check_key(given: str | None, wanted: str | None) -> None:
    """Raises Refused unless the key is the right one; how long that takes says nothing of it."""
    if wanted is not None and not hmac.compare_digest((given or "").encode("utf-8", "replace"), wanted.encode()):
        raise Refused(403, "api_key: is missing or wrong")


def check_size(texts: list[str], limits: Limits) -> None:
    """Raises Refused if there is more text than a request may have."""
    if (count := sum(map(len, texts))) > limits.characters:
        raise Refused(400, f"q: {count:,} characters, {limits.characters:,} may be in a request")
    if (count := sum(text.count("\n") + 1 for text in texts)) > limits.lines:
        raise Refused(400, f"q: {count:,} lines, {limits.lines:,} may be in a request")


async def translated(served: Served, lines: list[str]) -> list[str]:
    """Translations of lines; blank lines stay blank.

    Raises:
        Refused: a line cannot be translated, or too many wait.
    """
    translator, much = served.translator, sum(map(len, lines)) > MANY
    pieces = await aside(partial(in_pieces, translator), lines, much)
    ids = await aside(translator.encoded, [piece for each in pieces for piece in each], much)
    try:
        found = await served.batching.decode(ids, translator.num_beams, translator.direction)
    except Overloaded as error:
        raise Refused(503, str(error)) from error
    made = iter(await aside(translator.joined, found, much))
    return [" ".join(next(made) for _ in each) for each in pieces]


def in_pieces(translator: LineTranslator, lines: list[str]) -> list[list[str]]:
    """Lines as the model takes them.

    Raises:
        Refused: one cannot be translated.
    """
    pieces = []
    for number, line in enumerate(lines, 1):
        try:
            pieces.append(translator.pieces(cleaned(line)))
        except (DataError, TokenizerError) as error:
            raise Refused(400, f"q: line {number}: {error}") from error
    return pieces


async def aside(function: Callable[[list], list], values: list, much: bool) -> list:
    """What a function makes of values, in a thread where there is so much that others would have to wait."""
    if not values:
        return []
    return await run_in_threadpool(function, values) if much else function(values)


async def watched(request: Request, seconds: float, work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """What some work comes to, as long as the client is there and the time is not over.

    Raises:
        Refused: the time is over, or the client has gone.
    """
    task, end = asyncio.ensure_future(work), time.monotonic() + seconds
    try:
        while not task.done():
            await asyncio.wait([task], timeout=min(TICK, max(0.0, end - time.monotonic())))
            if task.done():
                break
            if time.monotonic() >= end:
                raise Refused(503, f"not done within {seconds:g} s; send less at a time")
            if await request.is_disconnected():
                raise Refused(HUNG_UP, "gone")
        return task.result()
    finally:
        task.cancel()
