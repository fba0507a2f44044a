import copy

import datasets
import pytest

from hf_paretokd import LanguagePair, encode_split, train_tokenizer
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.encoding import as_pairs, check_known, check_no_padding
from hf_paretokd.errors import DataError


def test_over_long_sentences_are_counted(texts, tokenizer):
    pair, text = next(iter(texts["test"].items()))
    encoded = encode_split({pair: text}, tokenizer, max_length=25)[str(pair)]
    assert len(encoded) + text.skipped["more tokens than max_length"] == len(text)
    assert 0 < len(encoded) < len(text)
    assert max(map(len, encoded["input_ids"])) <= 25
    with pytest.raises(DataError, match="max_length"):
        encode_split({pair: text}, tokenizer, max_length=2)


def test_text_of_one_pair_may_stand_alone(texts, tokenizer, tmp_path):
    (pair, text), *_ = texts["train"].items()
    alone, named = encode_split(text, tokenizer), encode_split({pair: text}, tokenizer)
    assert list(alone) == list(named) == [str(pair)]
    assert alone[str(pair)][:] == named[str(pair)][:]
    made = [train_tokenizer(each, tmp_path / name, vocab_size=600) for name, each in (("a", text), ("b", {pair: text}))]
    assert made[0].get_vocab() == made[1].get_vocab()


def test_several_targets_are_asked_for_by_tags(texts, tmp_path):
    """One-to-many and many-to-many: the tag is the first token of every source, at training as for a user."""
    text = next(iter(texts["train"].values()))
    turned = ParallelText(LanguagePair("en", "fr"), "train", text.targets, text.sources)
    pairs = {LanguagePair("fr", "en"): text, LanguagePair("en", "fr"): turned}
    tokenizer = train_tokenizer(pairs, tmp_path, 900)
    encoded = encode_split(pairs, tokenizer, max_length=96)
    for pair, tag in (("fr-en", ">>en<<"), ("en-fr", ">>fr<<")):
        first = encoded[pair][0]["input_ids"]
        assert first[0] == tokenizer.get_vocab()[tag]
        assert first == tokenizer(f"{tag} {pairs[LanguagePair.parse(pair)].sources[0]}")["input_ids"]
    alone = encode_split({LanguagePair("fr", "en"): text}, tokenizer, max_length=96)["fr-en"][0]["input_ids"]
    assert alone[0] != tokenizer.get_vocab()[">>en<<"], "one target needs no tag"


def test_what_is_no_text_to_the_tokenizer_is_left_out_and_counted(texts, tokenizer):
    """The rule is the tokenizer's: `load_text` knows nothing of the special tokens of another one."""
    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"additional_special_tokens": ["<sep>"]})
    rows = [
        ("dans <sep> 3", "in 3"),
        ("dans 3", "in 3"),
        ("a", "b </s>"),
        (">>x<< a", "b"),
        ("a", ">> b << c"),
        ("a \u2581", "b"),
    ]
    text = ParallelText(LanguagePair("fr", "en"), "train", [row[0] for row in rows], [row[1] for row in rows])
    encoded = encode_split({text.pair: text}, other)["fr-en"]
    assert other.decode(encoded[0]["input_ids"], skip_special_tokens=True) == "dans 3"
    assert len(encoded) == 1
    assert text.skipped == {"special token in the text": 5}
    lone = ParallelText(text.pair, "train", [rows[0][0]], ["in"])
    with pytest.raises(DataError, match="every sentence holds a special token"):
        encode_split({text.pair: lone}, other)


def test_padded_columns_mean_what_the_mask_says():
    rows = [
        {"input_ids": [5, 6, 0, 9, 9], "attention_mask": [1, 1, 1, 0, 0], "labels": [7, 0, -100]},
        {"input_ids": [9, 9, 5, 6, 0], "attention_mask": [0, 0, 1, 1, 1], "labels": [7, 8, 0]},
    ]
    (found,) = as_pairs(datasets.Dataset.from_list(rows)).values()
    assert found["input_ids"][:] == [[5, 6, 0], [5, 6, 0]]
    assert found["labels"][:] == [[7, 0], [7, 8, 0]]
    check_no_padding({"corpus": found}, 9)
    whole = datasets.Dataset.from_list([{"input_ids": [5, 0], "attention_mask": [1, 1], "labels": [7, 0]}])
    assert as_pairs(whole)["corpus"] is whole, "nothing is copied where there is no padding"


@pytest.mark.parametrize("as_bool", [False, True])
@pytest.mark.parametrize("form", [None, "torch", "numpy"])
def test_padded_columns_of_any_form(form, as_bool):
    rows = [{"input_ids": [5, 6, 0, 9], "attention_mask": [1, 1, 1, 0], "labels": [7, 0, -100, -100]}] * 2
    rows = [{**row, "attention_mask": [bool(each) if as_bool else each for each in row["attention_mask"]]} for row in rows]
    (found,) = as_pairs(datasets.Dataset.from_list(rows).with_format(form)).values()
    assert found[:] == {"input_ids": [[5, 6, 0]] * 2, "labels": [[7, 0]] * 2}


@pytest.mark.parametrize("mask", [None, [1], [1, 1, 1], [1, None], [2, 1]])
def test_masks_that_are_none_are_named(mask):
    rows = [{"input_ids": [5, 0], "attention_mask": [1, 0], "labels": [7, 0]}]
    rows.append({**rows[0], "attention_mask": mask})
    with pytest.raises(DataError, match="data set corpus: an attention_mask is not 0 or 1 for each id of its row"):
        as_pairs(datasets.Dataset.from_list(rows))


@pytest.mark.parametrize("mask", [1, "11", [0.5, 1.0]])
def test_masks_of_other_types_are_named(mask):
    row = {"input_ids": [5, 0], "attention_mask": mask, "labels": [7, 0]}
    with pytest.raises(DataError, match=r"data set corpus: attention_mask holds .*; give a list of 0 and 1 a row"):
        as_pairs(datasets.Dataset.from_list([row]))


def test_rows_that_are_all_mask_are_named():
    rows = [{"input_ids": [5, 0], "attention_mask": [0, 0], "labels": [7, 0]}]
    with pytest.raises(DataError, match="column 'input_ids' has rows without token ids"):
        check_known(as_pairs(datasets.Dataset.from_list(rows)), 20)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input_ids": [5, 0], "labels": [7, 0, 9]}, r"data set corpus: labels hold the padding token \(9\)"),
        ({"input_ids": [5, 0, 9], "labels": [7, 0]}, r"input_ids hold the padding token \(9\) and no attention_mask"),
        ({"input_ids": [5, 0], "labels": [7, -100, 0]}, r"labels hold -100 before their end"),
    ],
)
def test_padding_that_nothing_tells_of_is_refused(row, message):
    with pytest.raises(DataError, match=message):
        check_no_padding(as_pairs(datasets.Dataset.from_list([row])), 9)


@pytest.mark.parametrize(
    "other", [[{"input_ids": [1], "labels": [1]}], datasets.Dataset.from_list([{"labels": [1]}]).to_iterable_dataset()]
)
def test_other_kinds_of_data_sets_are_refused_by_name(other):
    with pytest.raises(DataError, match=f"is a {type(other).__name__}; give a datasets.Dataset of token ids"):
        as_pairs(other)
