"""Sequence-level distillation: what a teacher makes of text, kept through kills, and what is learnt from it."""

import json
import shutil

import pytest
import torch
from commands import TINY, command

import hf_paretokd.runs.distill as module
from hf_paretokd.data.corpus import DataConfig, load_text
from hf_paretokd.data.distilled import read_provenance
from hf_paretokd.data.languages import Direction, check_tagged
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.errors import DataError, ModelError, RecipeError
from hf_paretokd.inference.decoding import translate
from hf_paretokd.layout import RunLayout
from hf_paretokd.models.files import load_checkpoint
from hf_paretokd.runs.distill import distill
from hf_paretokd.runs.run import Run

FRENCH = LanguagePair("fr", "en")
LIMITS = "--data.max_sentence_pairs={fr-en: 60, bs-en: 30}"


@pytest.fixture(scope="module")
def lines(tmp_path_factory, sentences):
    """Monolingual French text of 60 phrases, with a blank line, a doubled one and one that holds a control token."""
    path = tmp_path_factory.mktemp("text") / "mono.fr"
    path.write_text("\n".join([*sentences[:60], "", sentences[0], "un </s> deux"]) + "\n", "utf-8")
    return path


def corpus(folder, pair="fr-en"):
    return [(folder / pair / f"train.{side}").read_text("utf-8").split("\n")[:-1] for side in pair.split("-")]


@torch.no_grad()
def one_by_one(folder, sources, beams):
    """Slow reference: every sentence alone through `generate`."""
    model, tokenizer = load_checkpoint(folder)
    made, longest = [], 2 * max(map(len, tokenizer(sources)["input_ids"])) + 20
    for source in sources:
        ids, most = tokenizer([source], return_tensors="pt"), min(longest, model.config.max_position_embeddings)
        out = model.eval().generate(**ids, num_beams=beams, do_sample=False, max_length=most)
        made.append(tokenizer.decode(out[0], skip_special_tokens=True))
    return made


@pytest.mark.parametrize("engine", ["transformers", "ctranslate2"])
def test_monolingual_text_becomes_a_corpus_with_its_record(engine, students, lines, sentences, tmp_path):
    made = distill(str(students / "3-2"), tmp_path / "out", [str(lines)], 3, engine, overrides=["--data.pairs", "fr-en"])
    source, target = corpus(tmp_path / "out")
    assert source == list(dict.fromkeys(sentences[:60]))
    assert target == one_by_one(students / "3-2", source, 3)
    assert made == read_provenance(tmp_path / "out")
    assert (made.of, made.num_beams, made.engine, made.lines) == ("monolingual text", 3, engine, {"fr-en": len(source)})
    assert made.places == [str(lines)]
    assert made.seconds > 0
    assert not (tmp_path / "out" / ".shards").exists()
    config = DataConfig(["fr-en"], str(tmp_path / "out"))
    assert load_text(config, "train")[FRENCH].targets, "an ordinary corpus"


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """A corpus of the run's own training sources, greedy."""
    place = tmp_path_factory.mktemp("made") / "corpus"
    distill(str(folder), place, num_beams=1, overrides=[LIMITS])
    return place


def data_of(folder, **more):
    raw = json.loads(json.dumps(Run(folder).recipe.raw["data"]))
    return DataConfig(**{**raw, "max_sentence_pairs": {"fr-en": 60, "bs-en": 30}, **more})


def test_training_text_is_replaced_or_added_to(folder, made):
    original = load_text(data_of(folder), "train")
    replaced = load_text(data_of(folder, distilled_dir=str(made)), "train")
    added = load_text(data_of(folder, distilled_dir=str(made), distilled="add"), "train")
    for pair, text in original.items():
        source, target = corpus(made, str(pair))
        assert source == text.sources
        pairs = [each for each in dict.fromkeys(zip(source, target, strict=True)) if each[1]]
        assert list(zip(replaced[pair].sources, replaced[pair].targets, strict=True)) == pairs
        both = dict.fromkeys([*zip(text.sources, text.targets, strict=True), *pairs])
        assert list(zip(added[pair].sources, added[pair].targets, strict=True)) == list(both)
        assert sum((text.skipped + replaced[pair].skipped).values()) >= len(source) - len(pairs)
    for split in ("validation", "test"):
        assert load_text(data_of(folder, distilled_dir=str(made)), split) == load_text(data_of(folder), split)


def test_the_teacher_is_asked_by_tag_and_the_corpus_has_none(folder, made, tmp_path, monkeypatch):
    """The run has tags always."""
    source, target = corpus(made, "bs-en")
    assert target == one_by_one(folder / "teacher", [f">>en<< {line}" for line in source], 1)
    asked = []

    def echo(model, tokenizer, part, *rest):
        asked.extend((rest[-1], line) for line in part)
        return part

    monkeypatch.setattr(module, "translate", echo)
    distill(str(folder / "students" / "2-2"), tmp_path / "out", overrides=[LIMITS])
    known = [line for pair in ("fr-en", "bs-en") for line in corpus(tmp_path / "out", pair)[0]]
    assert asked == [(Direction(">>en<< "), line) for line in known]


@pytest.mark.parametrize("cut", ["translate", "save_plan", "write_whole"])
def test_a_kill_costs_the_shard_that_was_in_the_making(cut, students, lines, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 10)
    seconds = iter(range(10**6))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(seconds)))  # a second passes between any two looks
    arguments = (str(students / "2-2"), tmp_path / "out", [str(lines)], 1)
    fr = ["--data.pairs", "fr-en"]
    whole = distill(arguments[0], tmp_path / "whole", *arguments[2:], overrides=fr)
    count = -(-whole.lines["fr-en"] // 10)
    original, calls = getattr(module, cut), []

    def killed(*words, **more):
        calls.append(words)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(module, cut, killed)
        with pytest.raises(KeyboardInterrupt):
            distill(*arguments, overrides=fr)
    done = len(list((tmp_path / "out" / ".shards").glob("fr-en.*")))
    assert done == 3, "each shard is whole or not there"
    with pytest.raises(DataError, match=r"unfinished work of another teacher, other text or other options \(.*greedy by trans"):
        distill(*arguments[:3], 2, overrides=fr)
    with pytest.raises(DataError, match=r"unfinished work of another teacher, other text or other options"):
        distill(*arguments, overrides=[*fr, "--data.target_tags", "always"])
    with pytest.raises(DataError, match="no finished distilled corpus"):
        read_provenance(tmp_path / "out")
    translated = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "translate", lambda *words: translated.append(words) or translate(*words))
        resumed = distill(*arguments, overrides=fr)
    lost = 1 if cut == "save_plan" else 0  # the shard was there, what it took not yet written down
    assert (whole.seconds, resumed.seconds) == (count, count - lost), "of all parts of the work"
    assert len(translated) == count - done
    assert corpus(tmp_path / "out") == corpus(tmp_path / "whole")
    again = distill(*arguments[:3], 2, overwrite=True, overrides=fr)
    assert again.num_beams == 2


def test_a_corpus_is_replaced_when_the_new_one_is_there_and_nothing_else_is(students, lines, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 10)
    arguments, fr = (str(students / "2-2"), tmp_path / "out", [str(lines)], 1), ["--data.pairs", "fr-en"]
    old = distill(*arguments, overrides=fr)
    notes = tmp_path / "out" / "fr-en" / "train.notes"
    notes.write_text("mine")
    before, calls = corpus(tmp_path / "out"), []

    def killed(*words):
        calls.append(words)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return translate(*words)

    monkeypatch.setattr(module, "translate", killed)
    with pytest.raises(KeyboardInterrupt):
        distill(*arguments[:3], 2, overwrite=True, overrides=fr)
    assert (read_provenance(tmp_path / "out"), corpus(tmp_path / "out")) == (old, before), "as it was until the end"
    new = distill(*arguments[:3], 2, overwrite=True, overrides=fr)
    assert len(calls) == 1 + -(-new.lines["fr-en"] // 10), "the same words go on with this one too"
    assert (new.num_beams, read_provenance(tmp_path / "out")) == (2, new)
    assert notes.read_text() == "mine"


def test_limits_are_of_distilled_text_as_well(folder, lines, students, tmp_path):
    distill(str(students / "2-2"), tmp_path / "out", [str(lines)], 1, overrides=["--data.pairs", "fr-en"])
    few = {"pairs": ["fr-en"], "distilled_dir": str(tmp_path / "out"), "max_sentence_pairs": {"fr-en": 20}}
    replaced = load_text(data_of(folder, **few), "train")[FRENCH]
    assert len(replaced) == 20
    assert set(replaced.sources) <= set(corpus(tmp_path / "out")[0])
    assert len(load_text(data_of(folder, **few, distilled="add"), "train")[FRENCH]) in range(38, 41), "but for doubles"


def test_all_in_one_students_learn_from_it_and_say_so(folder, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [LIMITS, "--data.distilled_dir", made, "--data.distilled", "add", "--output_dir", "run", "--overwrite"]
    assert command("train", RunLayout(folder).recipe, *TINY, *words) == 0
    run = Run("run")
    assert run.distilled == read_provenance(made)
    card = (run.folder / "students" / "2-2" / "README.md").read_text("utf-8")
    assert "joined by training text that `run` had translated (greedy by transformers)" in card
    assert "distilled_dir" in RunLayout(run.folder).recipe.read_text("utf-8")


def test_the_command_line(students, lines, tmp_path, capsys):
    words = ("--output", tmp_path / "out", "--text", lines, "--num_beams", 1, "--data.pairs", "fr-en")
    assert command("distill", students / "2-2", *words) == 0
    shown = capsys.readouterr().out
    assert "sentence pairs, monolingual text by" in shown
    assert f"--data.distilled_dir {tmp_path / 'out'}" in shown
    assert command("distill", students / "2-2", *words) == 1
    assert "holds a finished distilled corpus; give --overwrite" in capsys.readouterr().err


def spoilt(made, tmp_path, change):
    """A copy of the corpus with one thing changed."""
    place = tmp_path / "spoilt"
    shutil.copytree(made, place)
    change(place)
    return place


def edited(name, edit):
    def change(place):
        path = place / name
        path.write_text(edit(path.read_text("utf-8")), "utf-8")

    return change


def shorter(place):
    """Without its last sentence."""
    for side in ("fr", "en"):
        edited(f"fr-en/train.{side}", lambda text: "\n".join(text.split("\n")[:-2]) + "\n")(place)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            edited("fr-en/train.fr", lambda text: text.replace("\n", " !\n", 1)),
            r"train\.fr:1: is not the sentence that the training",
        ),
        (edited("fr-en/train.en", lambda text: text.split("\n", 1)[1]), r"train\.fr:\d+: no partner line"),
        (edited("distilled.json", lambda text: text.replace('"fr-en"', '"de-en"')), "holds no text for fr-en; distil it too"),
        (edited("distilled.json", lambda text: text[:40]), r"distilled\.json: cannot be read"),
        (edited("fr-en/train.en", lambda text: text.replace("\n", " !\n", 1)), r"train\.en: was changed after it was written"),
        (shorter, "has 59 lines, the training text of fr-en 60"),
        (lambda place: (place / "distilled.json").unlink(), r"no finished distilled corpus \(distilled\.json is missing\)"),
    ],
    ids=["sentence", "lines", "pair", "damage", "target", "shorter", "record"],
)
def test_text_that_does_not_match_is_refused(change, message, folder, made, tmp_path):
    with pytest.raises(DataError, match=message):
        load_text(data_of(folder, distilled_dir=str(spoilt(made, tmp_path, change))), "train")


def test_other_training_text_is_refused(folder, made):
    config = data_of(folder, distilled_dir=str(made), max_sentence_pairs={"fr-en": 59, "bs-en": 30})
    with pytest.raises(DataError, match=r"train\.fr(:\d+: is not the sentence|: has 60 lines, the training text of fr-en 59)"):
        load_text(config, "train")


class FakeTokenizer:
    """One that knows two target languages."""

    def get_vocab(self):
        return {">>de<<": 0, ">>en<<": 1, "a": 2}


def test_what_cannot_be_distilled(folder, students, lines, tmp_path):
    model, fr, out = str(students / "2-2"), ["--data.pairs", "fr-en"], tmp_path / "out"
    with pytest.raises(RecipeError, match=r"data\.target_tags: the model knows >>de<<, >>en<< and would be told none"):
        check_tagged(FakeTokenizer(), [Direction()])
    check_tagged(FakeTokenizer(), [Direction(">>de<< ")])
    with pytest.raises(RecipeError, match="--engine: 'marian' is not one of"):
        distill(model, out, engine="marian", overrides=fr)
    with pytest.raises(RecipeError, match="--num_beams: 0 is not 1 or more"):
        distill(model, out, num_beams=0, overrides=fr)
    with pytest.raises(RecipeError, match=r"--quantization int8: needs --engine ctranslate2"):
        distill(model, out, quantization="int8", overrides=fr)
    with pytest.raises(RecipeError, match=r"put \{source\} into the name"):
        distill(model, out, [str(lines)], overrides=["--data.pairs", "fr-en", "bs-en"])
    with pytest.raises(RecipeError, match=r"--text: '\{lang\}' may hold"):
        distill(model, out, ["{lang}"], overrides=fr)
    with pytest.raises(DataError, match=r"nowhere\.fr: no such file"):
        distill(model, out, [str(tmp_path / "nowhere.{source}")], overrides=fr)
    with pytest.raises(RecipeError, match=r"data\.pairs: name at least one language pair"):
        distill(model, out, [str(lines)])
    with pytest.raises(RecipeError, match="lies inside"):
        distill(str(folder), folder / "corpus")
    with pytest.raises(ModelError, match=r"no run with finished models|no usable checkpoint"):
        distill(str(tmp_path), out, [str(lines)], overrides=fr)
    assert not out.exists()
    (out / "sub").mkdir(parents=True)
    with pytest.raises(DataError, match="is there already and is no distilled corpus"):
        distill(model, out, [str(lines)], overrides=fr)
    for peer in (1, 2):
        place = tmp_path / "peers" / "peers" / str(peer)
        place.mkdir(parents=True)
        (place / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"has several models; name the one .*peers/1"):
        distill(str(tmp_path / "peers"), tmp_path / "other", [str(lines)], overrides=fr)
