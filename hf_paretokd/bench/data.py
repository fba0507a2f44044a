"""What it takes to prepare text of any size: speed beside SentencePiece alone, and memory, in processes of their own."""

import random
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from tqdm.auto import tqdm

from hf_paretokd.bench.tables import BenchTable
from hf_paretokd.data.batches import PairBatches
from hf_paretokd.data.corpus import CHUNK, DataConfig, ParallelText, open_rows
from hf_paretokd.data.encoding import Encoder
from hf_paretokd.data.languages import UNTOLD
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.sampling import MicroBatch, PairDataset
from hf_paretokd.data.shards import Job, make_shards, opened, put_together, store
from hf_paretokd.data.tokenizer import train_tokenizer
from hf_paretokd.evaluation.contamination import Sought
from hf_paretokd.layout import StoreLayout
from hf_paretokd.models.files import load_tokenizer

PAIR = LanguagePair("xx", "yy")
WORDS, WIDTH, PIECES = 30_000, (16, 30), 8000  # different ones, of a sentence, of the vocabulary
SAMPLE = 50_000  # rows whose encoding is timed
TURNS = 5
TEST = 2000  # sentences that are looked for
PEERS, MAX_TOKENS = 2, 2500  # of the training whose first micro-batches are drawn


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
    memory, rank = {}, {}
    with tempfile.TemporaryDirectory() as place:
        for count in sorted(rows):
            folder = Path(place) / str(count)
            folder.mkdir()
            write_text(folder, count)
            if not (tokenizer := Path(place) / "tokenizer").exists():
                sources, targets = heads(folder)
                train_tokenizer(ParallelText(PAIR, "train", sources, targets), tokenizer, PIECES)
            found = {**alone(prepared, folder, tokenizer), **alone(read, folder)}
            if count == min(rows):
                passing = alone(passed_over, folder, tokenizer)
            memory[count], rank[count] = found.pop("memory"), found.pop("rank")
        found |= alone(compared, folder, tokenizer)
        share = gone_on(folder, tokenizer)
    single = found["sentencepiece"]
    largest = f"{max(rows):,} pairs"
    table.add("sp.encode of both sides, pairs a CPU second", f"{single:,.0f}", "")
    table.add("text in memory to Arrow, beside it", f"{found['encoding'] / single:.2f}", "≥ 0.7")
    table.add("all of preparing, beside it", f"{found['preparing']:.2f}", "≥ 0.5")
    for count, megabytes in memory.items():
        table.add(f"memory above the base, {count:,} pairs", f"{megabytes:.0f} MB", "≤ 600 MB")
    for count, megabytes in rank.items():
        table.add(f"of each process that trains, {count:,} pairs", f"{megabytes:.0f} MB", "the same")
    table.add("on disk", f"{found['disk']:.0f} bytes a pair", "")
    table.add("passing over shards of others", f"{passing:.1f} CPU µs a pair", "")
    table.add("putting shards together", f"{found['together']:.1f} CPU µs a pair", "")
    table.add(f"second start, {largest}", f"{found['again']:.1f} s", "≤ 10 s")
    table.add(f"what the sampler counts at the start, {largest}", f"{found['counting']:.2f} CPU s", "")
    table.add(f"first micro-batches of a pass, {PEERS} peers, {largest}", f"{found['first']:.2f} CPU s", "≤ 0.5 s")
    table.add("killed at half and started again, share of the whole", f"{share:.0%}", "≤ 55 %")
    table.add("search for test sentences, share of preparing", f"{found['search']:.1%}", "≤ 5 %")
    return table


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fresh process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def heads(folder: Path) -> list[list[str]]:
    """The first sentences of both sides."""
    found = []
    for side in (PAIR.source, PAIR.target):
        with (folder / f"train.{side}").open() as file:
            found.append([line.rstrip("\n") for line in islice(file, SAMPLE)])
    return found


def job_in(folder: Path, tokenizer: Path) -> Job:
    """Preparing the text of a folder."""
    config = DataConfig(pairs=[str(PAIR)], data_dir=str(folder))
    return Job(PAIR, "train", partial(open_rows, config, "train", PAIR), load_tokenizer(tokenizer), UNTOLD, 512)


def prepared(folder: Path, tokenizer: Path) -> dict[str, float]:
    """Prepares text: speed beside SentencePiece's before and after, memory above the base; starts again; searches."""
    job, place = job_in(folder, tokenizer), folder / "store"
    before = alone_speed(job.tokenizer, heads(folder))
    base, begun = anonymous(), time.process_time()
    layout = StoreLayout(place)
    with watched_memory() as most:
        shards = make_shards(job, layout)
        made = time.process_time()
        put_together(job, layout, shards)
    end = time.process_time()
    seconds, memory = end - begun, max(most) - base
    single = (before + alone_speed(job.tokenizer, heads(folder))) / 2
    rows, begun = len(opened(place).dataset), time.monotonic()
    store(job, place)
    opened(place)
    again, begun = time.monotonic() - begun, time.process_time()
    sought = Sought({f"none {number}" for number in range(TEST)})
    for keys in opened(place).row_keys():
        for line in keys:
            sought.look_in(line)
    search = (time.process_time() - begun) / seconds
    disk = sum(path.stat().st_size for path in place.iterdir())
    costs = {"together": (end - made) / rows * 1e6, "disk": disk / rows}
    return {**costs, "preparing": rows / seconds / single, "memory": memory, "again": again, "search": search}


def alone_speed(tokenizer: Any, sides: Sequence[Sequence[str]]) -> float:
    """Pairs a CPU second of SentencePiece alone."""
    begun = time.process_time()
    for processor, side in zip((tokenizer.spm_source, tokenizer.spm_target), sides, strict=True):
        for start in range(0, len(side), CHUNK):
            processor.encode(side[start : start + CHUNK])
    return len(sides[0]) / (time.process_time() - begun)


def read(folder: Path) -> dict[str, float]:
    """Draws from prepared text as a training does: CPU seconds, and memory above the base."""
    base, begun = anonymous(), time.process_time()
    dataset = opened(folder / "store").dataset
    batches = PairBatches(str(PAIR), dataset, MAX_TOKENS)
    counting, begun = time.process_time() - begun, time.process_time()
    streams, rows = [batches.rekeyed(1, peer) for peer in range(PEERS)], PairDataset({str(PAIR): dataset}, PIECES)
    for stream in streams:
        rows.fetch(MicroBatch(0, str(PAIR), stream.draw(0)))
    return {"counting": counting, "first": time.process_time() - begun, "rank": anonymous() - base}


def compared(folder: Path, tokenizer_folder: Path) -> dict[str, float]:
    """Pairs a CPU second of SentencePiece alone, and of what is made of its ids: medians of several turns."""
    tokenizer, sides = load_tokenizer(tokenizer_folder), heads(folder)
    encoder, processors = Encoder(tokenizer, UNTOLD), (tokenizer.spm_source, tokenizer.spm_target)
    count, seconds = len(sides[0]), {"sentencepiece": [0.0] * TURNS, "encoding": [0.0] * TURNS}
    for turn in range(TURNS):
        for start in range(0, count, CHUNK):
            some = [side[start : start + CHUNK] for side in sides]
            begun = time.process_time()
            for processor, texts in zip(processors, some, strict=True):
                processor.encode(texts)
            between = time.process_time()
            encoder.batch(*some)
            seconds["sentencepiece"][turn] += between - begun
            seconds["encoding"][turn] += time.process_time() - between
    return {name: count / median(each) for name, each in seconds.items()}


def gone_on(folder: Path, tokenizer: Path) -> float:
    """What is left to do where preparing was killed in the middle of its time: CPU seconds beside those of all."""
    layout = StoreLayout(folder / "killed")
    whole = float(alone(prepare_in, folder, tokenizer))
    shutil.rmtree(layout.folder)
    process = get_context("spawn").Process(target=prepare_in, args=(folder, tokenizer))
    process.start()
    while not layout.parts.exists():
        time.sleep(0.01)
    time.sleep(whole / 2)
    process.kill()
    process.join()
    return float(alone(prepare_in, folder, tokenizer) / whole)


def passed_over(folder: Path, tokenizer: Path) -> float:
    """CPU microseconds a pair of passing over shards that are there."""
    job, layout = job_in(folder, tokenizer), StoreLayout(folder / "passed")
    make_shards(job, layout)
    begun = time.process_time()
    make_shards(job, layout)
    return (time.process_time() - begun) / len(opened(folder / "store").dataset) * 1e6


def prepare_in(folder: Path, tokenizer: Path) -> float:
    """Prepares the text of a folder in another place; its CPU seconds."""
    tqdm.set_lock(threading.RLock())  # its own is shared between processes, and left behind by one that is killed
    job, begun = job_in(folder, tokenizer), time.process_time()
    store(job, folder / "killed")
    return time.process_time() - begun


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
