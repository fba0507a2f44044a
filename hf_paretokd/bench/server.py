"""How fast a server answers, beside CTranslate2 called directly on the same sentences."""

import asyncio
import http.client
import json
import multiprocessing
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import sentencepiece
import torch

from hf_paretokd.bench.tables import BenchTable
from hf_paretokd.errors import ServingError
from hf_paretokd.layout import SOURCE_PIECES
from hf_paretokd.models.files import load_tokenizer, usable_length
from hf_paretokd.serving.models import Models
from hf_paretokd.serving.server import bound, check_installed, serve
from hf_paretokd.utils.machine import machine_name

HEAD = b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
STARTED = 120  # seconds in which a server has to answer


@dataclass
class Load:
    """What came of some requests.

    Args:
        sentences: that were sent.
        seconds: from the first request to the last answer.
        latencies: seconds of each request.
        errors: requests without a translation.
    """

    sentences: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: int = 0

    @property
    def rate(self) -> float:
        """Sentences a second."""
        return self.sentences / self.seconds


def bench_server(
    export: Path,
    text: Path,
    requests: int = 10_000,
    lines: int = 1,
    num_beams: int = 1,
    clients: Sequence[int] = (1, 8, 32),
    max_tokens: int = 4096,
) -> BenchTable:
    """Sentences a second, and how long a request takes.

    Args:
        export: for CTranslate2, of one pair.
        text: source text, a sentence a line; taken from its start as often as need be.
        requests: of the most clients; fewer have a fifth of them.
        lines: sentences of a request.
        num_beams: 1 for greedy search.
        clients: that ask at a time, each over a connection of its own.
        max_tokens: source tokens of a batch.

    Raises:
        ServingError, ModelError: the export cannot be served, or a package is missing.
    """
    check_installed()
    (pair,) = Models.load([export], num_beams, max_tokens, 1).served
    found = [line for line in text.read_text("utf-8").splitlines() if line.strip()]
    counts = {number: requests if number == max(clients) else requests // 5 for number in clients}
    sentences = [found[place % len(found)] for place in range(requests * lines)]
    table = BenchTable(
        f"{export.name}, {'greedy' if num_beams == 1 else f'beam {num_beams}'}, {lines} line{'s' * (lines > 1)} a request, "
        f"{torch.get_num_threads()} threads, {machine_name()}",
        ("clients", "requests", "sentences/s", "× direct", "p50 ms", "p99 ms", "errors"),
    )
    direct = directly(export, sentences[: len(sentences) // 5], num_beams)
    table.add("none: CTranslate2", "", f"{direct:.1f}", "1.00", "", "", "")
    with running(export, num_beams, max_tokens) as port:
        fields = {"source": pair.source, "target": pair.target}
        bodies = [
            json.dumps({**fields, "q": sentences[place : place + lines]}).encode() for place in range(0, len(sentences), lines)
        ]
        ask(port, bodies[:50], 1)
        for number, count in counts.items():
            load = ask(port, bodies[:count], number)
            load.sentences *= lines
            middle, most = (np.percentile(load.latencies, share) * 1000 for share in (50, 99))
            rates = (f"{load.rate:.1f}", f"{load.rate / direct:.2f}", f"{middle:.1f}", f"{most:.1f}")
            table.add(str(number), f"{count:,}", *rates, str(load.errors))
    return table


def directly(export: Path, sentences: Sequence[str], num_beams: int) -> float:
    """Sentences a second by CTranslate2 with all of them at hand: pieces, one call, text."""
    import ctranslate2

    threads = torch.get_num_threads()
    translator = ctranslate2.Translator(str(export), inter_threads=threads, intra_threads=1)
    torch.set_num_threads(threads)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(export / SOURCE_PIECES))
    room = usable_length(None, load_tokenizer(export)) - 2  # the token it starts from, and the end
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        made = translator.translate_batch(
            [each[:room] for each in pieces.encode(list(sentences), out_type=str)],
            beam_size=num_beams,
            max_batch_size=4096,
            batch_type="tokens",
            max_decoding_length=room,
        )
        for each in made:
            pieces.decode_pieces(each.hypotheses[0])
        rates.append(len(sentences) / (time.perf_counter() - start))
    return float(np.median(rates))


@contextmanager
def running(export: Path, num_beams: int, max_tokens: int) -> Iterator[int]:
    """A server in a process of its own inside the `with`; its port.

    Raises:
        ServingError: it does not answer.
    """
    with bound("127.0.0.1", 0) as free:
        port = int(free.getsockname()[1])
    options = {"port": port, "num_beams": num_beams, "max_tokens": max_tokens, "max_waiting": 1_000_000, "say": str}
    process = multiprocessing.get_context("spawn").Process(target=serve, args=([export],), kwargs=options, daemon=True)
    process.start()
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.join()


def wait_for(port: int, process: multiprocessing.process.BaseProcess) -> None:
    """Until the server answers.

    Raises:
        ServingError: it does not.
    """
    end = time.monotonic() + STARTED
    while process.is_alive() and time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise ServingError(f"the server did not answer within {STARTED} seconds")


def ask(port: int, bodies: Sequence[bytes], clients: int) -> Load:
    """Sends requests from many clients at a time, each one after the other over a connection of its own."""
    load = Load(len(bodies))

    async def all_of_them() -> None:
        await asyncio.gather(*(client(port, bodies[number::clients], load) for number in range(clients)))

    start = time.perf_counter()
    asyncio.run(all_of_them())
    load.seconds = time.perf_counter() - start
    return load


async def client(port: int, bodies: Sequence[bytes], load: Load) -> None:
    """One client; as little of HTTP as will do, so that the time is the server's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body in bodies:
        start = time.perf_counter()
        writer.write(HEAD % len(body) + body)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            answer = await reader.readexactly(int(found[1]) if found else 0)
            load.errors += not (head.startswith(b"HTTP/1.1 200") and answer.startswith(b'{"translatedText":'))
        except (OSError, EOFError):
            load.errors += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        load.latencies.append(time.perf_counter() - start)
    writer.close()
