r"""COMET by its files: it needs transformers below 5 and so an environment of its own.

The translations of a run are already what `comet-score` reads. In the folder `translations/SPLIT.PAIR` of the run:

    comet-score -s source.txt -r reference.txt -t teacher.txt student-*.txt --model Unbabel/wmt22-comet-da \
        --to_json wmt22-comet-da.json

The JSON file may stay there: reports, cards and tables take its scores from then on, under its name.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from hf_paretokd.errors import DataError
from hf_paretokd.evaluation.results import ResultRow
from hf_paretokd.layout import kept_text
from hf_paretokd.models.member import Member


def comet_rows(folder: Path, members: Mapping[str, Member], split: str, pairs: list[str]) -> list[ResultRow]:
    """A row `comet` for every model and pair that a file of `comet-score` covers, as the mean over sentences.

    Args:
        folder: the run's translations.
        members: the run's models by their file names.
        split: the split whose files are read.
        pairs: language pairs.

    Raises:
        DataError: a file is not what `comet-score --to_json` writes.
    """
    rows = []
    for pair in pairs:
        for path in sorted(kept_text(folder, split, pair).glob("*.json")):
            try:
                scores = {
                    Path(name).stem: [each["COMET"] for each in lines]
                    for name, lines in json.loads(path.read_text("utf-8")).items()
                }
                means = {name: float(sum(values) / len(values)) for name, values in scores.items()}
            except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
                raise DataError(f"{path}: not a file that comet-score --to_json writes ({error!r}); move it away") from error
            for name, value in means.items():
                if member := members.get(name):
                    own = (member.kind, str(member.depth), member.peer)
                    rows.append(ResultRow(*own, pair, split, "comet", value, path.stem))
    return rows
