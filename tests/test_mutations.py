"""The table of `mutations.py` fits the code; running it is not part of the tests (`make mutations`)."""

import mutations


def test_every_edit_can_be_made_in_one_place():
    assert len(mutations.MUTATIONS) >= 120
    assert len({(each.file, each.old, each.new) for each in mutations.MUTATIONS}) == len(mutations.MUTATIONS)
    for mutation in mutations.MUTATIONS:
        assert mutations.changed(mutation) != (mutations.ROOT / mutation.file).read_text("utf-8")
        for test in mutation.tests.split():
            assert (mutations.ROOT / test).exists(), test
