"""The web application, in the shape of LibreTranslate's API."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
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
from hf_paretokd.serving.batching import Overloaded, TooMany
from hf_paretokd.serving.models import AUTO, Models, Served
from hf_paretokd.utils.text import cleaned

Outcome = TypeVar("Outcome")
FORM = "application/x-www-form-urlencoded"
TRANSLATE = "/translate"
PATHS = (TRANSLATE, "/languages", "/health", "/metrics")
HUNG_UP = 499  # a status for the figures; nobody reads it
DRAINED = 64_000_000  # bytes read and forgotten, because many clients hear an answer only when they have sent everything
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
    app.state.stopping = lambda: False  # whoever runs it knows
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
        return answer(error.status_code, f"{request.method} {request.url.path}: there is nothing of that kind", error.headers)

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

        async def gone() -> None:
            if await request.is_disconnected():
                raise Refused(HUNG_UP, "gone")

        late = Refused(503, f"not done within {limits.seconds:g} s; send less at a time")
        made = iter(await watched(translated(served, lines), limits.seconds, gone, late))
        figures.lines.inc(len(lines))
        found = ["\n".join(next(made) for _ in text.split("\n")) for text in texts]
        return JSONResponse({"translatedText": found[0] if isinstance(asked.q, str) else found})

    @app.api_route("/languages", methods=["GET", "HEAD", "POST"])  # clients of before post
    async def languages() -> list[dict[str, Any]]:
        targets: dict[str, list[str]] = {}
        for pair in models.served:
            targets.setdefault(pair.source, []).append(pair.target)
        return [{"code": code, "name": code, "targets": into} for code, into in targets.items()]

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """What a client is told that asks for too much, or wrongly."""
    return JSONResponse({"error": message}, status, {"Retry-After": "1"} if status == 503 else headers)


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request; what is too much is read, up to a bound, and forgotten.

    Raises:
        Refused: it is too large, or does not come.
    """
    body, count = bytearray(), 0
    try:
        async for chunk in request.stream():
            count += len(chunk)
            if count > DRAINED:
                break
            body += chunk if count <= most else b""
    except ClientDisconnect as error:
        raise Refused(HUNG_UP, "gone") from error
    if count > most:
        raise Refused(413, f"the request has more than {most:,} bytes")
    return bytes(body)


async def read(request: Request, limits: Limits) -> Asked:
    """The fields of a request, as JSON or as a form.

    Raises:
        Refused: it is too large, does not come, or says something else.
    """

    async def stopping() -> None:
        if request.app.state.stopping():
            raise Refused(503, "the server stops")

    late = Refused(408, f"the request did not come within {limits.seconds:g} s")
    body = await watched(body_of(request, limits.bytes), limits.seconds, stopping, late)
    try:
        text = body.decode("utf-8")
        if request.headers.get("content-type", "").lower().startswith(FORM):
            fields: Any = {name: values if len(values) > 1 else values[0] for name, values in parse_qs(text, True).items()}
        else:
            fields = json.loads(text)
        if not isinstance(fields, dict):
            raise Refused(400, "the request is no JSON object; give q, source and target")
        return Asked.model_validate(readable(fields))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:1]) or "the request"
        raise Refused(400, f"{where}: {first['msg'].lower()}; give q, source and target") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON
        raise Refused(400, "the request is neither JSON nor an urlencoded form; give q, source and target") from error


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
    except TooMany as error:
        raise Refused(400, f"q: {error}") from error
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
            text, targets = cleaned(line), translator.targets
            if text and targets.default and targets.split(text)[0] != targets.default:
                raise DataError(f"has a tag of another target than {targets.default}; name it as target")
            pieces.append(translator.pieces(text))
        except (DataError, TokenizerError) as error:
            raise Refused(400, f"q: line {number}: {error}") from error
    return pieces


async def aside(function: Callable[[list], list], values: list, much: bool) -> list:
    """What a function makes of values, in a thread where there is so much that others would have to wait."""
    if not values:
        return []
    return await run_in_threadpool(function, values) if much else function(values)


async def watched(
    work: Coroutine[Any, Any, Outcome], seconds: float, look: Callable[[], Awaitable[None]], late: Refused
) -> Outcome:
    """What some work comes to, unless something else comes in between.

    Args:
        work: what is done.
        seconds: that it may take.
        look: called now and then; raises Refused where there is no need to go on.
        late: raised when the time is over.

    Raises:
        Refused: one of both.
    """
    task, end = asyncio.ensure_future(work), time.monotonic() + seconds
    try:
        while not task.done():
            await asyncio.wait([task], timeout=min(TICK, max(0.0, end - time.monotonic())))
            if task.done():
                break
            if time.monotonic() >= end:
                raise late
            await look()
        return task.result()
    finally:
        task.cancel()
