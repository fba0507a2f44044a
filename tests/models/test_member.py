from itertools import product
from pathlib import Path

import pytest

from hf_paretokd import Depth, Member
from hf_paretokd.errors import ModelError
from hf_paretokd.models.member import distinct

DEEP, SHALLOW = Depth(6, 6), Depth(2, 2)


@pytest.mark.parametrize(
    ("member", "folder", "stem", "title", "suffix"),
    [
        (Member("teacher", DEEP), "teacher", "teacher", "6-6 teacher", "6-6"),
        (Member("model", DEEP), "model", "model", "6-6 model", ""),
        (Member("student", SHALLOW), "students/2-2", "student-2-2", "2-2", "2-2"),
        (Member("peer", DEEP, 1), "peers/1", "peer-1", "6-6 peer 1", "peer-1"),
        (Member("student", SHALLOW, 1), "peers/1/students/2-2", "peer-1-student-2-2", "2-2 of peer 1", "peer-1-2-2"),
    ],
)
def test_names_of_a_member(member, folder, stem, title, suffix):
    assert (member.folder, member.stem, member.title, member.suffix) == (folder, stem, title, suffix)
    config = {"encoder_layers": member.depth.encoder, "decoder_layers": member.depth.decoder}
    assert Member.at(Path("runs/x") / folder, config) == member
    assert Member.at(Path(folder), config) == member


def test_different_members_of_a_run_differ_in_all_names():
    """Two peers may both have a student 2-2, and each of them is another model."""
    depths = [DEEP, Depth(6, 2), SHALLOW]
    family = [Member("peer", DEEP, peer) for peer in (1, 2, 12)]
    family += [Member("student", depth, peer) for depth, peer in product(depths, (1, 2, 12))]
    family += [Member("teacher", DEEP), *(Member("student", depth) for depth in depths)]
    for name in ("folder", "stem", "title"):
        assert len({getattr(member, name) for member in family}) == len(family), name
    hub = distinct(family)
    assert len({member.suffix for member in hub}) == len(hub), "a teacher is its deepest student"


def test_a_teacher_or_peer_that_is_its_own_student_counts_once():
    whole = [Member("teacher", DEEP), Member("peer", DEEP, 1), Member("peer", DEEP, 2), Member("model", DEEP)]
    students = [Member("student", DEEP), Member("student", DEEP, 1), Member("student", SHALLOW, 2)]
    assert distinct([*whole, *students, *students]) == [whole[2], whole[3], *students]


def test_depths_are_read_as_families_write_them():
    assert Member.at(Path("teacher"), {"num_layers": 4, "num_decoder_layers": 2}).depth == Depth(4, 2), "T5"
    with pytest.raises(ModelError, match="does not say how many layers"):
        Member.at(Path("teacher"), {"model_type": "gpt2", "n_layer": 3})
