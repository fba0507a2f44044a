"""Preparing text and distilling on a Ray cluster (extra `ray`): Ray Data deals out what one machine would do a shard at a time.

Its workers read models and text from where the recipe says and keep shards in the cache of `datasets`, so both are folders that
all machines share. What a lost worker had in hand is done again by another one; what was finished stays.
"""

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from hf_paretokd.data.languages import Direction
from hf_paretokd.data.shards import make_shards
from hf_paretokd.data.stores import make_room
from hf_paretokd.errors import DataError, ParetoKDError, RecipeError
from hf_paretokd.inference.decoding import decoder_of, translate
from hf_paretokd.layout import StoreLayout
from hf_paretokd.models.files import load_checkpoint, load_tokenizer
from hf_paretokd.runs.recipe import build_recipe
from hf_paretokd.runs.text import text_jobs
from hf_paretokd.utils.machine import fastest_device, moved

LOCAL = "local"
ANSWER = 10.0  # seconds


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster.

    Args:
        address: `host:port`, `auto` for the one this machine belongs to, or `local` for workers on this machine alone.
        workers: how many work at once; default: one for each of its processors.
    """

    address: str
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise RecipeError(f"--ray_workers: {self.workers} is not 1 or more")

    @contextmanager
    def joined(self) -> Iterator[Any]:
        """Ray, connected.

        Raises:
            RecipeError: it is not installed, or the cluster cannot be reached.
        """
        if find_spec("ray") is None:
            raise RecipeError("--ray: Ray is not installed (pip install 'hf_paretokd[ray]')")
        import ray
        import ray.data

        if self.address not in (LOCAL, "auto"):
            check_answers(self.address)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        own = {"num_cpus": self.workers, "include_dashboard": False} if self.address == LOCAL else {"address": self.address}
        try:
            ray.init(**own, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            reason = " ".join(str(error).split())
            raise RecipeError(f"--ray: the cluster {self.address} cannot be reached ({reason})") from error
        try:
            yield ray
        finally:
            ray.shutdown()

    def done(self, items: Sequence[Mapping[str, Any]], worker: type, **given: Any) -> Iterator[dict[str, Any]]:
        """What workers make of items, as it is finished.

        Args:
            items: one a call.
            worker: a class, made once in every worker.
            given: what it is made with.

        Raises:
            ParetoKDError: what went wrong in a worker.
        """
        if not items:
            return
        with self.joined() as ray:
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = context.print_on_execution_start = False
            count = min(len(items), self.workers or int(ray.cluster_resources().get("CPU", 1)))
            pool = ray.data.ActorPoolStrategy(size=count)
            rows = ray.data.from_items(list(items), override_num_blocks=len(items))
            try:
                yield from rows.map(worker, fn_constructor_kwargs=given, compute=pool).iter_rows()
            except ray.exceptions.RayError as error:
                raise own_error(error) from error


def check_answers(address: str) -> None:
    """Raises a RecipeError if nobody answers at `host:port`; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise RecipeError(f"--ray: {address!r} is not host:port, auto or local")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"--ray: the cluster {address} cannot be reached ({reason})") from error


def own_error(error: BaseException) -> ParetoKDError:
    """What a worker has said, out of what Ray makes of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ParetoKDError):
            return cause
        inner = getattr(cause, "cause", None)
        cause = inner if isinstance(inner, BaseException) and inner is not cause else cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return DataError(
        f"--ray: a worker failed: {lines[-1] if lines else type(error).__name__}; start again, finished shards stay"
    )


# ---- preparing


class Preparing:
    """Makes shards of the text of a recipe.

    Args:
        raw: the recipe.
        tokenizer: its folder or Hub id.
    """

    def __init__(self, raw: Mapping[str, Any], tokenizer: str) -> None:
        self.jobs = text_jobs(build_recipe(raw, trainable=False), load_tokenizer(tokenizer))

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Makes those that nobody else has made or is making."""
        for job, folder in self.jobs:
            if not folder.is_dir():
                make_room(folder)
                make_shards(job, StoreLayout(folder))
        return {"worker": item["worker"]}


def prepare_on(cluster: Cluster, raw: Mapping[str, Any], tokenizer: str) -> None:
    """Makes all shards of a recipe's text; `prepare_text` then puts them together.

    Raises:
        ParetoKDError: the cluster cannot be reached, or the text breaks a rule.
    """
    workers = cluster.workers
    if workers is None:
        with cluster.joined() as ray:
            workers = int(ray.cluster_resources().get("CPU", 1))
    for _ in cluster.done([{"worker": number} for number in range(workers)], Preparing, raw=dict(raw), tokenizer=tokenizer):
        pass


# ---- distilling


class Translating:
    """Translates shards of sentences.

    Args:
        teacher: a checkpoint.
        directions: what it is told of each pair.
        engine, quantization, num_beams, max_tokens: how.
    """

    def __init__(
        self, teacher: str, directions: Mapping[str, Direction], engine: str, quantization: str, num_beams: int, max_tokens: int
    ) -> None:
        model, self.tokenizer = load_checkpoint(teacher)
        self.model = moved(model.eval(), fastest_device()) if engine == "transformers" else model.eval()
        self.decoder = decoder_of(self.model, self.tokenizer, engine, quantization)
        self.options, self.directions = (num_beams, max_tokens), directions

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The translations of one shard."""
        made = translate(
            self.model, self.tokenizer, list(item["texts"]), *self.options, None, self.decoder, self.directions[item["pair"]]
        )
        return {"number": item["number"], "lines": made}
