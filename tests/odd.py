"""Odd text."""

import random

SCRIPTS = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0x1100, 0x11FF), (0x3040, 0x30FF)]
SCRIPTS += [
    (0x4E00, 0x4FFF),
    (0xAC00, 0xACFF),
    (0x1F300, 0x1F64F),
    (0x2000, 0x206F),
    (0xE000, 0xE010),
    (0x1, 0x1F),
    (0xFE00, 0xFE0F),
]


def odd_lines(real: list[str], count: int, seed: int) -> list[str]:
    """Lines of many scripts, and real ones with odd characters at their ends and inside."""
    draw = random.Random(seed)
    character = lambda: chr(draw.randint(*draw.choice(SCRIPTS)))  # noqa: E731
    lines = []
    for number in range(count):
        if number % 2:
            lines.append("".join(character() for _ in range(draw.randint(0, 30))))
        else:
            line = draw.choice(real)
            place = draw.randint(0, len(line))
            lines.append(line[:place] + character() * draw.randint(0, 3) + line[place:] + character() * draw.randint(0, 2))
    return lines
