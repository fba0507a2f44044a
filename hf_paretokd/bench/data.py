"""What it takes to prepare text of any size: speed beside SentencePiece alone, and memory, in processes of their own."""

import random
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path

from hf_paretokd.bench.tables import BenchTable
from hf_paretokd.data.corpus import CHUNK, DataConfig, ParallelText, open_rows
from hf_paretokd.data.encoding import Encoder
from hf_paretokd.data.languages import UNTOLD
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.shards import Job, opened, store
from hf_paretokd.data.tokenizer import train_tokenizer
from hf_paretokd.evaluation.contamination import Sought
from hf_paretokd.models.files import load_tokenizer

PAIR = LanguagePair("xx", "yy")
WORDS, WIDTH, PIECES = 30_000, (16, 30), 8000  # different ones, of a sentence, of the vocabulary
SAMPLE = 50_000  # rows whose encoding is timed
TEST = 2000  # sentences that are looked for
LIMITS = {"encoding": 0.7, "preparing": 0.5, "again": 10.0, "memory": 600.0, "search": 0.05}


def write_text(folder: Path, rows: int) -> None:
    """Sentences of made-up words, as frequent as words are (Zipf), every one different."""
    generator = random.Random(rows)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ["".join(generator.choices(syllables, k=generator.randint(1, 4))) for _ in range(WORDS)]
    weights = list(accumulate(1 / (rank + 10) for rank in range(WORDS)))
    with (folder / "train.xx").open("w") as source, (folder / "train.yy").open("w") as target:
        for number in range(rows):
            for file in (source, target):
                file.write(
                    f"{' '.join(generator.choices(words, cum_weights=weights, k=generator.randint(*WIDTH)))} {number}.\n"
                )


def bench_data(rows: Sequence[int]) -> BenchTable:
    """Prepares text of several sizes, each in a process of its own.

    Args:
        rows: sentence pairs.
    """
    table = BenchTable("preparing text, made up, 23 words a side", ("what", "measured", "must"))
    memory = {}
    with tempfile.TemporaryDirectory() as place:
        for count in sorted(rows):
            folder = Path(place) / str(count)
            folder.mkdir()
            write_text(folder, count)
            if not (tokenizer := Path(place) / "tokenizer").exists():
                head = [(folder / f"train.{side}").read_text().splitlines()[:SAMPLE] for side in ("xx", "yy")]
                train_tokenizer(ParallelText(PAIR, "train", head[0], head[1]), tokenizer, PIECES)
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                found = alone.submit(measured, folder, tokenizer).result()
            memory[count] = found.pop("memory")
            last = found
        sentencepiece = last["sentencepiece"]
        table.add("sp.encode of both sides, pairs a CPU second", f"{sentencepiece:,.0f}", "")
        table.add("text in memory to Arrow, beside it", f"{last['encoding'] / sentencepiece:.2f}", f"≥ {LIMITS['encoding']}")
        table.add("all of preparing, beside it", f"{last['preparing'] / sentencepiece:.2f}", f"≥ {LIMITS['preparing']}")
        for count, megabytes in memory.items():
            table.add(f"memory above the base, {count:,} pairs", f"{megabytes:.0f} MB", f"≤ {LIMITS['memory']:.0f} MB")
        table.add(f"second start, {max(rows):,} pairs", f"{last['again']:.1f} s", f"≤ {LIMITS['again']:.0f} s")
        table.add("search for test sentences, share of preparing", f"{last['search']:.1%}", f"≤ {LIMITS['search']:.0%}")
    return table


def measured(folder: Path, tokenizer_folder: Path) -> dict[str, float]:
    """All figures of one text, in this process."""
    tokenizer = load_tokenizer(tokenizer_folder)
    config = DataConfig(pairs=[str(PAIR)], data_dir=str(folder))
    open_text = partial(open_rows, config, "train", PAIR)
    job, place = Job(PAIR, "train", open_text, tokenizer, UNTOLD, 512), folder / "store"
    base, begun = anonymous(), time.process_time()
    with watched_memory() as most:
        store(job, place)
    preparing, memory = time.process_time() - begun, max(most) - base
    rows, begun = len(opened(place).dataset), time.monotonic()
    store(job, place)
    opened(place)
    again, begun = time.monotonic() - begun, time.process_time()
    sought = Sought({f"none {number}" for number in range(TEST)})
    for keys in opened(place).row_keys():
        for line in keys:
            sought.look_in(line)
    search = time.process_time() - begun
    sides = [(folder / f"train.{side}").read_text().splitlines()[:SAMPLE] for side in ("xx", "yy")]
    begun = time.process_time()
    for processor, side in zip((tokenizer.spm_source, tokenizer.spm_target), sides, strict=True):
        processor.encode(side)
    alone, encoder, begun = time.process_time() - begun, Encoder(tokenizer, UNTOLD), time.process_time()
    for start in range(0, len(sides[0]), CHUNK):
        encoder.batch(*(side[start : start + CHUNK] for side in sides))
    encoding = time.process_time() - begun
    count = len(sides[0])
    speeds = {"sentencepiece": count / alone, "encoding": count / encoding, "preparing": rows / preparing}
    return {**speeds, "memory": memory, "again": again, "search": search / preparing}


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """`anonymous`, looked at many times a second."""
    stop, seen = threading.Event(), [anonymous()]

    def watch() -> None:
        while not stop.wait(0.05):
            seen.append(anonymous())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def anonymous() -> float:
    """Megabytes that the process has of its own, without the files it has mapped; where that is not told, the most of all."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().partition("RssAnon:")[2].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
