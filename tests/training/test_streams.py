"""Trainings of text without an end: nothing is lost or doubled, and a resumed one goes on with the same micro-batches."""

import datasets
import pytest
import torch

from hf_paretokd.data.streams import StreamBatches
from hf_paretokd.errors import DataError, TrainingError
from hf_paretokd.training import text as module


def unchecked(name, rows):
    return rows


def rows_of(count, start=0):
    """Rows that tell themselves: the first id is their number."""
    return [{"input_ids": [number, *[0] * (number % 7)], "labels": [number, 0]} for number in range(start, start + count)]


def streamed(rows):
    def generator():
        yield from rows

    return datasets.IterableDataset.from_generator(generator)


def numbers(columns):
    return [ids[0] for ids in columns["input_ids"]]


def test_each_row_once_a_turn_in_buffers():
    batches = StreamBatches("fr-en", streamed(rows_of(250)), 40, 100, unchecked, 1)
    found, number = [], 0
    while len(found) < 500:
        drawn = batches.draw(number)
        assert len(drawn["input_ids"]) * max(map(len, drawn["input_ids"])) <= 40
        found += numbers(drawn)
        number += 1
    for start, rows in ((0, range(100)), (100, range(100, 200)), (200, range(200, 250)), (250, range(100))):
        assert sorted(found[start : start + len(rows)]) == list(rows), "a buffer is all drawn before the next is read"
    assert found[:100] != list(range(100)), "they are shuffled"
    assert found[:100] != found[250:350], "otherwise in the next turn"


def test_a_stream_goes_on_from_where_it_was():
    """Whatever number, also after it was drawn further on, as loaders do that draw in advance."""
    whole = StreamBatches("fr-en", streamed(rows_of(250)), 40, 100, unchecked, 1)
    expected = [numbers(whole.draw(number)) for number in range(150)]
    for number in (0, 3, 40, 77, 120):
        once = StreamBatches("fr-en", streamed(rows_of(250)), 40, 100, unchecked, 1)
        for ahead in range(number + 9):
            once.draw(ahead)
        state = once.state_dict(number)
        again = StreamBatches("fr-en", streamed(rows_of(250)), 40, 100, unchecked, 1)
        again.load_state_dict(state)
        assert [numbers(again.draw(each)) for each in range(number, 150)] == expected[number:]
        assert numbers(once.draw(number)) == expected[number], "and back"
    assert [numbers(whole.rekeyed(1).draw(number)) for number in range(9)] == expected[:9]
    assert [numbers(whole.rekeyed(2).draw(number)) for number in range(9)] != expected[:9]


def test_only_a_buffer_is_read_in_advance():
    read = []

    def generator():
        for row in rows_of(10_000):
            read.append(row)
            yield row

    batches = StreamBatches("fr-en", datasets.IterableDataset.from_generator(generator), 40, 100, unchecked, 1)
    assert not read
    batches.draw(0)
    assert len(read) <= 101


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the stream has no rows"),
        (rows_of(3), "ends after 3 sentence pairs, in its first micro-batch"),
        ([{"input_ids": [1] * 50, "labels": [1]}] * 9, "9 rows of the stream are all longer than max_tokens=40"),
    ],
)
def test_streams_that_nothing_can_be_learnt_from(rows, message):
    with pytest.raises(DataError, match=f"fr-en: .*{message}"):
        StreamBatches("fr-en", streamed(rows), 40, 100, unchecked, 1).draw(0)


def test_rows_that_are_too_long_are_left_out(monkeypatch):
    said = []
    monkeypatch.setattr("hf_paretokd.data.streams.logger.warning", said.append)
    rows = [*rows_of(30), {"input_ids": [99] * 50, "labels": [1]}, *rows_of(30, 30)]
    batches = StreamBatches("fr-en", streamed(rows), 40, 61, unchecked, 1)
    drawn = [numbers(batches.draw(number)) for number in range(12)]
    found = [number for each in drawn for number in each]
    assert 99 not in found
    assert set(range(30)) & set(found)
    assert said == ["fr-en: rows of the stream that are longer than max_tokens=40 are left out"]


# ---- trainings


@pytest.fixture
def endless(encoded):
    """The phrases as streams."""
    train = {pair: text.to_iterable_dataset() for pair, text in encoded["train"].items()}
    return {"train": train, "validation": encoded["validation"]}


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("plain", {}),
        ("all_in_one", {}),
        ("pareto_mutual", {"temperatures": [1.0, 5.0], "strategy": "uni", "update_interval": 3}),
    ],
)
def test_a_training_resumes_in_the_middle_of_a_buffer(new_trainer, endless, method, fields):
    fields = {"data": endless, "stream_buffer": 300, "max_steps": 8, "eval_steps": 4, **fields}
    whole = new_trainer(method, folder="whole", **fields)
    whole.train()
    half = new_trainer(method, folder="half", save_total_limit=None, **fields)
    half.train()
    half.checkpoint(8).rename(half.checkpoint(8).with_name("later"))
    again = new_trainer(method, folder="half", save_total_limit=None, **fields)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 8
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    assert "stream" in whole.identity.decides["text"].values()
    assert whole.identity.decides["stream_buffer"] == 300


def test_what_cannot_be_promised_is_said(new_trainer, endless, monkeypatch):
    said = []
    monkeypatch.setattr(module.logger, "warning", said.append)
    trainer = new_trainer(data=endless)
    (line,) = (line for line in said if "read as a stream" in line)
    for text in ("fr-en, bs-en", "passes are not counted", "signature", "drawn alike"):
        assert text in line
    assert {row.probability for row in trainer.text.expected(trainer.args.max_steps)} == {0.5}
    assert trainer.text.updates_per_pass == trainer.args.max_steps, "the whole training is one pass"
    assert {row.passes for row in trainer.text.expected(trainer.args.max_steps)} == {None}


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        ("plain", {"max_steps": -1}, "max_steps: fr-en is a stream"),
        ("plain", {"unimax_epochs": [2.0]}, "unimax_epochs: needs passes"),
        ("lssd", {}, "update_interval: needs passes over the text.* or a number of updates"),
        ("pareto_mutual", {"temperatures": [1.0, 5.0], "strategy": "auto"}, "strategy: needs passes"),
        ("pareto_mutual", {"temperatures": [1.0, 5.0], "strategy": "uni"}, "update_interval: needs passes"),
    ],
)
def test_what_needs_passes_is_refused(new_trainer, endless, method, fields, message):
    with pytest.raises(TrainingError, match=message):
        new_trainer(method, data=endless, **fields)


def test_rows_of_another_tokenizer_are_refused_when_they_come(new_trainer, encoded):
    bad = [*encoded["train"]["fr-en"].select(range(200)), {"input_ids": [9999], "labels": [1]}]
    data = {"train": {"fr-en": streamed(bad)}, "validation": {"fr-en": encoded["validation"]["fr-en"]}}
    trainer = new_trainer(data=data, stream_buffer=50, max_steps=50)
    with pytest.raises(DataError, match="data set fr-en: column 'input_ids' holds the id 9999"):
        trainer.train()


def test_validation_text_is_no_stream(new_trainer, encoded, endless):
    with pytest.raises(DataError, match=r"is a IterableDataset; give a datasets\.Dataset"):
        new_trainer(data={"train": encoded["train"], "validation": endless["train"]})


def test_a_stream_that_breaks_off_is_said():
    def generator():
        yield from rows_of(150)
        raise ConnectionError("the network is away")

    batches = StreamBatches("fr-en", datasets.IterableDataset.from_generator(generator), 40, 100, unchecked, 1)
    assert len(batches.draw(0)["labels"]) > 0
    with pytest.raises(DataError, match=r"fr-en: the stream cannot be read any further \(the network is away\)"):
        batches.draw(100)
