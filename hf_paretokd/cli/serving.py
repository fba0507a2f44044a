"""The command that serves models: `serve`."""

import os
from argparse import Namespace
from math import inf
from pathlib import Path

from hf_paretokd.cli.parser import Parser, UsageError, whole

KEY = "PARETOKD_API_KEY"  # of the environment, so that the key need not stand where everybody reads it


def serve_options(parser: Parser) -> None:
    """Of `paretokd serve`."""
    parser.option("what", "exports", nargs="+", type=Path, metavar="export", help="of paretokd export --to ctranslate2")
    parser.option("where", "--host", default="127.0.0.1", help="address it listens at; 0.0.0.0 lets everybody in")
    parser.option("where", "--port", type=whole, default=5000, metavar="N", help="port it listens at")
    parser.option("where", "--api_key", metavar="KEY", help=f"that requests have to name (default: {KEY}, or none)")
    parser.option("how", "--num_beams", type=whole, default=1, metavar="N", help="beam width, 1 for greedy search")
    parser.option("limits", "--max_lines", type=whole, default=1000, metavar="N", help="of a request")
    parser.option("limits", "--max_characters", type=whole, default=100_000, metavar="N", help="of a request")
    parser.option("limits", "--timeout", type=float, default=60.0, metavar="S", help="seconds that a request may take")
    parser.option("limits", "--max_waiting", type=whole, default=10_000, metavar="N", help="sentences that may wait", rare=True)
    parser.option("how", "--max_tokens", type=whole, default=4096, metavar="N", help="source tokens of a batch", rare=True)


def serve(options: Namespace, _: list[str]) -> None:
    """`paretokd serve`."""
    from hf_paretokd.cli import show
    from hf_paretokd.inference.decoding import check_beams
    from hf_paretokd.serving.server import serve as run

    check_beams(options.num_beams)
    if not options.host:
        raise UsageError("--host: is empty; 127.0.0.1 is this machine alone, 0.0.0.0 lets everybody in")
    for name in ("max_lines", "max_characters", "max_waiting", "max_tokens", "timeout"):
        if not 0 < getattr(options, name) < inf:
            raise UsageError(f"--{name}: {getattr(options, name):g} is no number above 0")
    words = vars(options)
    key = os.environ.get(KEY) if words["api_key"] is None else words["api_key"]
    if key == "":
        raise UsageError(f"--api_key: is empty, which would let everybody in; give one, or leave it (and {KEY}) out")
    run(**{**words, "api_key": key}, say=show.line)
