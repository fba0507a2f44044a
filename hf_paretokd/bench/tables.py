"""What a bench returns."""

from dataclasses import dataclass, field


@dataclass
class BenchTable:
    """A table that grows while its parts are measured."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """A row."""
        self.rows.append(cells)
