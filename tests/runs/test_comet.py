import json

import pytest

from hf_paretokd.errors import DataError
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.member import Member
from hf_paretokd.runs.comet import comet_rows


def test_comet_scores_are_read_from_its_files(tmp_path):
    """The form is that of comet-score --to_json: files, and in each a score a sentence."""
    folder = tmp_path / "test.de-en"
    folder.mkdir()
    sentence = {"src": "x", "mt": "y", "ref": "z"}
    content = {
        "teacher.txt": [{**sentence, "COMET": 0.8}, {**sentence, "COMET": 0.9}],
        "student-6-2.txt": [{**sentence, "COMET": 0.5}, {**sentence, "COMET": 0.6}],
        "someone-else.txt": [{**sentence, "COMET": 0.1}],
    }
    (folder / "wmt22-comet-da.json").write_text(json.dumps(content))
    systems = {system.stem: system for system in (Member("teacher", Depth(6, 6)), Member("student", Depth(6, 2)))}
    rows = comet_rows(tmp_path, systems, "test", ["de-en", "fr-en"])
    assert [(row.member.stem, row.metric, row.pair, row.signature) for row in rows] == [
        ("teacher", "comet", "de-en", "wmt22-comet-da"),
        ("student-6-2", "comet", "de-en", "wmt22-comet-da"),
    ]
    assert [row.value for row in rows] == pytest.approx([0.85, 0.55])
    (folder / "other.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"other\.json: not a file that comet-score"):
        comet_rows(tmp_path, systems, "test", ["de-en"])
