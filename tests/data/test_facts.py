"""What is known of stored token ids is what is found by reading them, and is forgotten with them."""

import pytest

from hf_paretokd.data.encoding import check_known, check_no_padding
from hf_paretokd.data.facts import Facts, TokenIds, facts_of, known_facts, target_length, text_hash
from hf_paretokd.errors import DataError
from hf_paretokd.training.signature import data_hashes
from tests.data.conftest import of_lengths


@pytest.fixture
def rows(encoded):
    return encoded["train"]["fr-en"]


def test_facts_are_those_of_the_rows(rows, tokenizer):
    found = facts_of(rows, tokenizer.pad_token_id)
    ids = [*rows["input_ids"], *rows["labels"]]
    assert found.rows == len(rows)
    assert found.longest == max(map(len, ids))
    assert found.largest == max(map(max, ids))
    assert found.targets == sum(map(len, rows["labels"])) == target_length(rows)
    assert found.hash == text_hash(rows) == data_hashes({"fr-en": rows})[1]["fr-en"]
    assert found.without == tokenizer.pad_token_id


def test_known_facts_are_taken_for_the_rows():
    """Told of text what is not so: nothing was read."""
    text = TokenIds(of_lengths([3, 4], [5, 6]).data, Facts(2, "12345678", 99, 7, 1000, 5))
    assert (text_hash(text), target_length(text)) == ("12345678", 1000)
    check_no_padding({"fr-en": text}, 5)
    check_known({"fr-en": text}, 8)
    with pytest.raises(DataError, match="the id 7, the model knows 0 to 6"):
        check_known({"fr-en": text}, 7)
    with pytest.raises(DataError, match=r"padding token \(1\)"):
        check_no_padding({"fr-en": text}, 1)


@pytest.mark.parametrize("changed", ["select", "filter", "shuffle", "map"])
def test_facts_are_not_those_of_other_rows(changed):
    text = TokenIds(of_lengths([3, 4], [5, 6]).data, Facts(2, "12345678", 99, 7, 1000, 5))
    made = {
        "select": lambda: text.select([0]),
        "filter": lambda: text.filter(lambda row: len(row["labels"]) > 5),
        "shuffle": lambda: text.shuffle(seed=1),
        "map": lambda: text.map(lambda row: {"labels": row["labels"][1:]}),
    }[changed]()
    assert known_facts(text) is not None
    assert known_facts(made) is None
    assert text_hash(made) != "12345678"
