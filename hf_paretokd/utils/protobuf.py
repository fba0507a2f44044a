"""Protocol buffers as they lie in a file.

SentencePiece's own Python class for its models needs the very version of protobuf that it was generated with.
"""

from collections.abc import Iterator
from typing import Any


def fields(message: bytes) -> Iterator[tuple[int, Any, bytes]]:
    """(number, content, all bytes) of the fields of a message: content is bytes, or an integer of variable length."""
    place = 0
    while place < len(message):
        start, content = place, None  # type: int, Any
        key, place = variable_length(message, place)
        kind = key & 7
        if kind == 0:
            content, place = variable_length(message, place)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                size, place = variable_length(message, place)
            content, place = message[place : place + size], place + size
        yield key >> 3, content, message[start:place]


def variable_length(message: bytes, place: int) -> tuple[int, int]:
    """The integer that begins at a place, seven bits a byte, and the place after it."""
    value, shift = 0, 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
