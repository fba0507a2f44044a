"""A recipe for somebody's text: found, explained, and trained as it stands."""

import gzip
import json
import re
import shutil
from pathlib import Path

import datasets
import pytest
from commands import TINY, command

from hf_paretokd import LanguagePair, load_text
from hf_paretokd.bench.estimate import Estimate, estimated
from hf_paretokd.bench.shapes import SHAPES
from hf_paretokd.errors import DataError, RecipeError
from hf_paretokd.runs.init import find_text, planned, rules, save_recipe, written
from hf_paretokd.runs.recipe import load_recipe

FR_EN, BS_EN = LanguagePair("fr", "en"), LanguagePair("bs", "en")


@pytest.fixture
def _known_speed(monkeypatch):
    monkeypatch.setattr("hf_paretokd.bench.estimate.estimated", lambda *words: Estimate(1.5, 2.25))


def test_text_is_found_as_people_keep_it(text_folder, tmp_path):
    found = find_text([text_folder])
    assert found.sizes == {pair: {"train": size, "validation": 40, "test": 40} for pair, size in ((BS_EN, 300), (FR_EN, 1500))}
    assert found.splits == {"train": "train", "validation": "validation", "test": "test"}
    assert found.pairs == 1800
    lines = [line for pair in ("fr-en", "bs-en") for line in (text_folder / pair / "train.en").read_text("utf-8").splitlines()]
    assert found.words == sum(len(line.split()) for line in lines)
    assert find_text([text_folder], ["fr-en", "fr-en"]).pairs == 1500
    for split, name in (("train", "train"), ("validation", "dev")):
        for side in ("fr", "en"):
            packed = gzip.compress((text_folder / "fr-en" / f"{split}.{side}").read_bytes())
            (tmp_path / f"{name}.{side}.gz").write_bytes(packed)
    found = find_text([tmp_path])
    assert found.sizes == {FR_EN: {"train": 1500, "validation": 40}}, "into English, where it is one of two"
    assert found.splits["validation"] == "dev"


def test_what_cannot_be_told_is_said(text_folder, tmp_path):
    place = tmp_path / "text"
    for setting, message in (
        (lambda: None, "text: no such file or folder"),
        (place.mkdir, r"text: has no text \(train\.LANG"),
        (lambda: (place / "train.de").write_text("a\nb\n"), "training text in de only; its translation has to lie beside it"),
        (lambda: (place / "train.en").write_text("a\n"), r"train\.de has 2 lines, train\.en 1; line n of one"),
        (
            lambda: (place / "train.en").write_text("a\nb\n"),
            r"no validation text of de-en \(validation or valid or val or dev\.de",
        ),
        (
            lambda: (place / "train.fr").write_text("a\n"),
            "text in de, en, fr; say which pairs are meant, such as --pairs de-en",
        ),
    ):
        setting()
        with pytest.raises(DataError, match=message):
            find_text([place])
    with pytest.raises(RecipeError, match="language pair 'german'"):
        find_text([place], ["german"])
    shutil.copytree(text_folder, tmp_path / "several")
    for side in ("bs", "en"):
        (tmp_path / "several" / "bs-en" / f"validation.{side}").rename(tmp_path / "several" / "bs-en" / f"dev.{side}")
    with pytest.raises(DataError, match="its validation text is called validation, that of others dev; call all alike"):
        find_text([tmp_path / "several"])
    (tmp_path / "damaged").mkdir()
    for side in ("de", "en"):
        (tmp_path / "damaged" / f"train.{side}.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"train\.de\.gz: cannot be read"):
        find_text([tmp_path / "damaged"])


def test_every_rule_names_its_source_and_what_is_not_measured_says_so():
    bounds = [row["up_to"] for row in rules()["sizes"]]
    assert bounds == sorted(bounds)
    for row in [*rules()["sizes"], rules()["processor"], rules()["one_pair"], rules()["several_pairs"]]:
        assert re.search(r"provisional|docs/results/", row["source"]), row


def rows(folder, split):
    sides = [(folder / "fr-en" / f"{split}.{language}").read_text("utf-8").splitlines() for language in ("fr", "en")]
    return list(zip(*sides, strict=True))


@pytest.mark.usefixtures("_known_speed")
@pytest.mark.parametrize("kind", ["tsv", "jsonl", "parquet", "lines"])
def test_files_are_text_too(text_folder, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    names = []
    for split, name in (("train", "corpus-train"), ("validation", "corpus-dev")):
        pairs = rows(text_folder, split)
        if kind == "lines":
            for number, language in enumerate(("fr", "en")):
                path = tmp_path / f"{name.removeprefix('corpus-')}.{language}"
                path.write_text("".join(f"{pair[number]}\n" for pair in pairs))
                names += [path.name] if split == "train" else []
            continue
        names.append(f"{name}.{kind}")
        if kind == "tsv":
            Path(names[-1]).write_text("".join(f"{source}\t{target}\n" for source, target in [("fr", "en"), *pairs]))
        elif kind == "jsonl":
            records = [
                {"id": number, "translation": {"en": target, "fr": source}} for number, (source, target) in enumerate(pairs)
            ]
            Path(names[-1]).write_text("".join(f"{json.dumps(record)}\n" for record in records))
        else:
            datasets.Dataset.from_list([{"fr": source, "en": target} for source, target in pairs]).to_parquet(names[-1])
    assert command("init", *names) == 0
    data = load_recipe("recipe.yaml").data
    found = find_text([Path(name) for name in names])
    assert found.sizes == {FR_EN: {"train": 1500, "validation": 40}}
    assert {split: len(load_text(data, split)[FR_EN]) for split in ("train", "validation")} == {"train": 1500, "validation": 40}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.tsv": "x\ty\n"}, "no validation text: name a file with validation or valid or val or dev"),
        ({"train.tsv": "x\ty\n", "dev.tsv": "x\ty\n"}, r"train\.tsv: says of no two columns which languages"),
        ({"train.tsv": "de\ten\nx\ty\n", "b.tsv": "x\ty\n"}, r"b\.tsv: is of the train text, as .*train\.tsv is"),
        ({"train.tsv": "de\ten\nx\ty\n", "dev.de": "x\n"}, r"dev\.de: holds one side"),
        ({"train.tsv": "oui\tyes\n", "dev.tsv": "non\tno\n"}, r"train\.tsv: says of no two columns which languages"),
        ({"train.tsv": "de\ten\n", "dev.tsv": "x\ty\n"}, r"train\.tsv: the train text of de-en is empty"),
        ({"train.de": "", "train.en": "", "dev.de": "x\n", "dev.en": "y\n"}, "the train text of de-en is empty"),
        ({"train.jsonl": "[]\n", "dev.jsonl": "[]\n"}, r"train\.jsonl: its first line is no JSON object"),
        ({"train.parquet": "x", "dev.parquet": "x"}, r"train\.parquet: not readable as parquet"),
        ({"train.de": "x\n"}, r"train\.de: name a folder with text, two files train\.LANG"),
        ({"train.de": "x\n", "train.en": "x\n", "train.fr": "x\n"}, r"train\.de: name a folder with text, two files"),
        ({"train.de": "x\n", "train.en": "x\n"}, "has no validation text of de-en"),
        ({"train.pt-BR": "x\n", "train.en": "x\n"}, r"train\.pt-BR: a hyphen .*; call the files of this language \.pt_BR"),
        ({"train.csv": "de,en\n"}, r"train\.csv: its format is not read; convert it"),
        ({"train.tmx": "x\n", "dev.tsv": "de\ten\n"}, r"train\.tmx: its format is not read; convert it"),
        ({"train.de": "x\0", "train.en": "x\n", "dev.de": "x\n", "dev.en": "y\n"}, r"train\.de:1: holds a NUL character"),
        ({"train.de": "x\ry\r", "train.en": "x\n", "dev.de": "x\n", "dev.en": "y\n"}, r"train\.de: all one line, with CR"),
    ],
)
def test_files_that_say_too_little(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        find_text([tmp_path / name for name in files])


def test_columns_that_number_rows_are_no_language(tmp_path):
    for split in ("train", "dev"):
        (tmp_path / f"{split}.jsonl").write_text('{"id": 1, "fr": "un", "en": "one"}\n')
    assert list(find_text([tmp_path / "train.jsonl", tmp_path / "dev.jsonl"]).sizes) == [FR_EN]


@pytest.mark.usefixtures("_known_speed")
def test_places_with_spaces_and_folders_without_text(text_folder, tmp_path, monkeypatch, capsys):
    place = tmp_path / "sp ace #1: text"
    shutil.copytree(text_folder, place)
    for name in ("old-backup", "2-2"):
        (place / name).mkdir()
    for side in ("bs", "en"):
        (place / "bs-en" / f"test.{side}").unlink()
    monkeypatch.chdir(tmp_path)
    assert command("init", place, "--output", "a #run") == 0
    recipe = load_recipe("recipe.yaml")
    assert recipe.data.pairs == ["bs-en", "fr-en"]
    assert (recipe.data.data_dir, recipe.training_fields["output_dir"]) == (str(place), "a #run")
    assert "there is no test text of bs-en" in (tmp_path / "recipe.yaml").read_text()
    (tmp_path / "file").touch()
    assert command("init", place, "--recipe", tmp_path / "file" / "recipe.yaml") == 1
    assert "recipe.yaml cannot be written in" in capsys.readouterr().err


def test_a_folder_stands_alone(text_folder):
    with pytest.raises(DataError, match="is a folder; name one folder, or files"):
        find_text([text_folder / "fr-en" / "train.fr", text_folder])


@pytest.mark.parametrize(("pairs", "width", "on_processor"), [(900, 256, 256), (50_000, 256, 256), (900_000, 512, 256)])
def test_more_text_makes_larger_models_where_they_can_be_trained(text_folder, pairs, width, on_processor):
    found = find_text([text_folder], ["fr-en"])
    found.sizes[FR_EN]["train"], found.words = pairs, pairs * 10
    assert (planned(found, True).width, planned(found, False).width) == (width, on_processor)
    plan = planned(found, False)
    words = pairs * 10 * rules()["pieces_a_word"] * plan.rule["passes"]
    assert plan.updates == pytest.approx(words / (0.85 * 4096), rel=0.5, abs=100)


@pytest.mark.usefixtures("_known_speed")
def test_the_recipe_is_short_explained_and_trains_as_it_stands(text_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(text_folder, tmp_path / "text")
    assert command("init", "text") == 0
    shown = capsys.readouterr().out
    assert "paretokd train recipe.yaml" in shown
    text = (tmp_path / "recipe.yaml").read_text("utf-8")
    assert len(text.splitlines()) <= 36
    assert text.splitlines()[0] == "# 1,800 sentence pairs to train on: bs-en 300, fr-en 1,500."
    recipe = load_recipe(tmp_path / "recipe.yaml")
    length = re.search(r"About (.*) on this machine \(cpu, 1.5 s an update\), 2\.2 GB", text)[1]
    assert length == f"{recipe.training.max_steps * 1.5:.0f} s" or length.endswith("min")
    assert recipe.training.temperatures == [1.0]
    assert recipe.model.d_model == 256
    assert command("train", "recipe.yaml", *TINY, "--temperatures", "2", "--evaluation.depths", "2-2") == 0
    assert command("init", "text") == 1
    assert "--recipe: recipe.yaml is there already" in capsys.readouterr().err
    one = find_text([tmp_path / "text"], ["fr-en"])
    del one.sizes[FR_EN]["test"]
    alone = written(planned(one, False), "runs/x")
    assert "temperatures" not in alone
    assert "splits: [validation]" in alone


def test_a_recipe_that_cannot_be_written(tmp_path):
    save_recipe("a: 1\n", tmp_path / "new" / "recipe.yaml")
    for path, message in (
        (tmp_path / "new" / "recipe.yaml", "is there already"),
        (tmp_path / "file" / "x", "cannot be written"),
    ):
        (tmp_path / "file").write_text("")
        with pytest.raises(RecipeError, match=message):
            save_recipe("b: 1\n", path)
    assert (tmp_path / "new" / "recipe.yaml").read_text("utf-8") == "a: 1\n"


def test_an_update_is_timed():
    found = estimated(SHAPES["tiny"], 256, 1)
    assert 0 < found.seconds < 60
    assert found.gigabytes > 0.1
