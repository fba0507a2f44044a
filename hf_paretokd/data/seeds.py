"""Stateless randomness: every draw is a function of named keys, so that nothing has to be replayed after a stop."""

import hashlib


def derive_seed(*keys: int | str) -> int:
    """A 63-bit seed that depends on all `keys` and on nothing else (same on every platform and process)."""
    digest = hashlib.sha256("/".join(map(str, keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def uniform(*keys: int | str) -> float:
    """A number in [0, 1) that depends on all `keys` and on nothing else."""
    return (derive_seed(*keys) >> 10) / 2**53
