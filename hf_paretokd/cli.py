"""The command line `paretokd`; every command is a few lines over the library."""

import argparse
import sys
from collections.abc import Sequence

from hf_paretokd.errors import ParetoKDError


def main() -> int:
    return 0
