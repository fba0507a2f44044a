"""Options of commands that a Ray cluster can do: `prepare`, `distill`."""

from argparse import Namespace
from typing import TYPE_CHECKING

from hf_paretokd.cli.parser import Parser, UsageError, whole

if TYPE_CHECKING:
    from hf_paretokd.runs.cluster import Cluster


def ray_options(parser: Parser) -> None:
    """Of commands that a cluster can do."""
    parser.option("where", "--ray", metavar="ADDRESS", help="a Ray cluster: host:port, auto, or local for workers here")
    parser.option("where", "--ray_workers", type=whole, metavar="N", help="that work at once (default: all processors)")


def ray_cluster(options: Namespace) -> "Cluster | None":
    """The cluster that is meant, if one is."""
    from hf_paretokd.runs.cluster import Cluster

    if options.ray_workers is not None and not options.ray:
        raise UsageError("--ray_workers: is for a cluster; give --ray ADDRESS, too")
    return Cluster(options.ray, options.ray_workers) if options.ray else None
