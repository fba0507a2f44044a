import numpy as np
import pytest
import torch

from hf_paretokd.data.batches import PairBatches, cut_sorted
from hf_paretokd.errors import DataError


def test_every_sentence_once_in_each_pass_within_the_budget(lengths):
    batches = PairBatches("de-en", lengths, 500, 1)
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
    again = PairBatches("de-en", lengths, 500, 1)
    assert tuple(again.draw(2 * len(again) + 5)) == passes[2][5], "a draw needs no history"
    used = sum(len(each) * lengths[0][each].max() for each in batches.in_order())
    assert used < 1.15 * lengths[0].sum(), "little padding"


def test_a_sentence_beyond_the_budget_is_refused(lengths):
    with pytest.raises(DataError, match="max_tokens"):
        PairBatches("de-en", lengths, 40, 1)


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
