import itertools

import numpy as np
import pytest
import torch

from hf_paretokd.data import batches as module
from hf_paretokd.data.batches import PairBatches, cut_sorted
from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.errors import DataError


def test_every_sentence_once_in_each_pass_within_the_budget(lengths, text):
    batches = PairBatches("de-en", text, 500, 1)
    passes = []
    for turn in range(3):
        rows = [batches.draw(turn * len(batches) + position) for position in range(len(batches))]
        assert sorted(np.concatenate(rows).tolist()) == list(range(1000))
        assert all(len(each) * max(lengths[0][each].max(), lengths[1][each].max()) <= 500 for each in rows)
        passes.append([tuple(each) for each in rows])
    assert passes[0] != passes[1]
    for rows in passes:
        longest = [max(np.maximum(*lengths)[list(each)]) for each in rows]
        assert longest != sorted(longest), "short and long ones in turn"
    assert set(passes[0]) != set(passes[1]), "batches are mixed anew, not only shuffled"
    again = PairBatches("de-en", text, 500, 1)
    assert tuple(again.draw(2 * len(again) + 5)) == passes[2][5], "a draw needs no history"
    used = sum(len(each) * lengths[0][each].max() for each in batches.in_order())
    assert used < 1.15 * lengths[0].sum(), "little padding"


def test_a_sentence_beyond_the_budget_is_refused(text):
    with pytest.raises(DataError, match="max_tokens"):
        PairBatches("de-en", text, 40, 1)


def test_collation(batch, encoded, tokenizer):
    rows = [encoded["train"]["fr-en"][index] for index in range(6)]
    for index, row in enumerate(rows):
        assert batch["input_ids"][index][batch["attention_mask"][index] == 1].tolist() == row["input_ids"]
        assert batch["labels"][index][batch["labels"][index] != -100].tolist() == row["labels"]
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
    assert torch.equal(batch["attention_mask"].sum(1), torch.tensor([len(row["input_ids"]) for row in rows]))


def test_a_text_longer_than_the_budget_is_alone():
    assert cut_sorted([5, 6], 3) == [0, 1]
    assert cut_sorted([1, 1, 9], 3) == [0, 2]
    assert cut_sorted([3, 3, 3, 3], 9) == [0, 3], "a budget is used up to its end"


def cuts_one_by_one(lengths, max_tokens):
    """The slow reference: a row joins its micro-batch unless that would be too large."""
    cuts, start = [0], 0
    for position, length in enumerate(lengths):
        if position > start and (position - start + 1) * length > max_tokens:
            start = position
            cuts.append(start)
    return cuts


def test_cuts_are_those_of_going_row_by_row():
    generator = np.random.default_rng(3)
    for _ in range(200):
        lengths = np.sort(generator.integers(1, generator.integers(2, 40), generator.integers(1, 80))).tolist()
        most = int(generator.integers(1, 90))
        assert cut_sorted(lengths, most) == cuts_one_by_one(lengths, most), (lengths, most)


def test_large_text_is_shuffled_in_windows(lengths, text, monkeypatch):
    """Every row once a pass; windows are of blocks from anywhere, come in another order every pass, and are sorted alone."""
    monkeypatch.setattr(module, "BLOCK", 16)
    monkeypatch.setattr(module, "WINDOW", 128)
    batches = PairBatches("de-en", text, 500, 1)
    sets = [set((window[:, None] * 16 + np.arange(16)).ravel().tolist()) for window in batches.windows]
    assert len(sets) == 8, "1,000 rows are 63 blocks of 16, and 8 of these are a window"
    assert any(max(each) - min(each) > 500 for each in sets)
    passes = []
    for turn in range(2):
        rows = [batches.draw(turn * len(batches) + position) for position in range(len(batches))]
        assert sorted(np.concatenate(rows).tolist()) == list(range(1000))
        assert all(len(each) * max(lengths[0][each].max(), lengths[1][each].max()) <= 500 for each in rows)
        homes = [next(number for number, each in enumerate(sets) if row[0] in each) for row in rows]
        assert all(set(row.tolist()) <= sets[home] for row, home in zip(rows, homes, strict=True)), "none is of two windows"
        order = [homes[0], *(after for before, after in itertools.pairwise(homes) if before != after)]
        assert sorted(order) == list(range(8)), "a window is read to its end"
        passes.append((order, {tuple(each) for each in rows}))
        longest = [max(np.maximum(*lengths)[each]) for each in rows]
        assert longest != sorted(longest)
    assert passes[0][0] != passes[1][0]
    assert passes[0][1] != passes[1][1]
    again = PairBatches("de-en", text, 500, 1)
    position = len(again) + len(again) // 2
    assert tuple(again.draw(position)) == tuple(batches.draw(position)), "a draw needs no history"
    other = again.rekeyed(2)
    assert [len(each) for each in other.in_order()] == [len(each) for each in again.in_order()]
    assert tuple(other.draw(position)) != tuple(again.draw(position))


def test_orders_of_smaller_text_are_what_they_were(lengths, text):
    """By the first version's own arithmetic, over all rows: checkpoints of it go on."""
    batches = PairBatches("de-en", text, 500, 7, 0)
    longer, other = np.maximum(*lengths), np.minimum(*lengths)
    generator = np.random.default_rng(derive_seed(7, 0, "order", "de-en", 2))
    order = generator.permutation(1000)
    order = order[np.lexsort((other[order], longer[order]))]
    found = np.split(order, cuts_one_by_one(np.sort(longer), 500)[1:])
    expected = [found[index].tolist() for index in generator.permutation(len(found))]
    assert [batches.draw(2 * len(batches) + position).tolist() for position in range(len(batches))] == expected
