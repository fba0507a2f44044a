"""A first recipe for somebody's text: what there is, what suits that much of it, and why."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from hf_paretokd.data.corpus import DataConfig, open_rows
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.readers import SUFFIXES, format_of, read_lines, unread
from hf_paretokd.errors import DataError, RecipeError
from hf_paretokd.utils.files import write_whole

NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
CODE = re.compile("[a-z]{2,3}([_-][A-Za-z]{2,8})?")  # of a language, as columns are called
SHORT = re.compile("[a-z]{2}([_-][A-Za-z]{2,8})?")  # in the first line of a TSV, which may be text as well
PAIR = re.compile(r"([A-Za-z]\w*)-(?!\1$)[A-Za-z]\w*")  # of two languages, as folders are called
FOREIGN = {".csv", ".tmx", ".xlsx", ".xml", ".txt", ".zst", ".bz2", ".xz", ".zip"}  # endings of files that are not read
NUMBER = "id"  # what records are numbered by, and the code of Indonesian
INTO = "en"  # a lone pair of files is taken to be translated into it, if it is one of them


@dataclass
class Found:
    """Text that was found.

    Args:
        folder: where it is; None for files that hold both sides.
        splits: the name of each split's files, or the files.
        sizes: lines of each split by language pair.
        words: words of the training text, target side.
    """

    folder: Path | None
    splits: dict[str, str] = field(default_factory=dict)
    sizes: dict[LanguagePair, dict[str, int]] = field(default_factory=dict)
    words: int = 0

    @property
    def pairs(self) -> int:
        """Sentence pairs to train on, of all languages."""
        return sum(sizes.get("train", 0) for sizes in self.sizes.values())


@dataclass(frozen=True)
class Plan:
    """What suits some text: the fields of a recipe, and why."""

    found: Found
    rule: Mapping[str, Any]
    method: str
    width: int
    inner: int
    heads: int
    updates: int
    updates_a_pass: float


@cache
def rules() -> dict[str, Any]:
    """What is chosen by how much text there is: the shipped `rules.yaml`."""
    return yaml.safe_load(files("hf_paretokd.runs").joinpath("rules.yaml").read_text("utf-8"))


# ---- what there is


def find_text(places: Sequence[Path], wanted: Sequence[str] = ()) -> Found:
    """The text in a folder, `PAIR/SPLIT.LANG[.gz]` or `SPLIT.LANG[.gz]` of one pair, or in files.

    Args:
        places: a folder; or files, line-aligned ones or such as hold both sides (TSV, JSON lines, parquet).
        wanted: language pairs; default: all that are there.

    Raises:
        DataError: there is none, a split is missing, or which languages are meant cannot be told; says what to do.
    """
    place = places[0]
    for each in places:
        if not each.exists():
            raise DataError(f"{each}: no such file or folder")
        if each.is_dir() and len(places) > 1:
            raise DataError(f"{each}: is a folder; name one folder, or files")
    if not place.is_dir():
        if any(format_of(each.name) for each in places):
            return find_rows(places, wanted)
        place, wanted = aligned_folder(places, wanted)
    found = Found(place)
    for pair in pairs_of(wanted) or pairs_in(place):
        folder = place / str(pair) if (place / str(pair)).is_dir() else place
        for split in NAMES:
            add_split(found, folder, pair, split)
        for split in ("train", "validation"):
            if split not in found.sizes.get(pair, {}):
                files_ = f"{' or '.join(NAMES[split])}.{pair.source} and .{pair.target}, also .gz"
                advice = "; hold some lines of the training text out" if split == "validation" else ""
                raise DataError(f"{folder}: has no {split} text of {pair} ({files_}){advice}")
    return checked(found)


def pairs_of(wanted: Sequence[str]) -> list[LanguagePair]:
    """The language pairs that are asked for, each once."""
    return list(dict.fromkeys(map(LanguagePair.parse, wanted)))


def checked(found: Found) -> Found:
    """What was found, if there are lines in it.

    Raises:
        DataError: a split of a pair is empty.
    """
    for pair, sizes in found.sizes.items():
        for split, lines in sizes.items():
            if not lines:
                raise DataError(f"{found.folder or found.splits[split]}: the {split} text of {pair} is empty")
    return found


def aligned_folder(files_: Sequence[Path], wanted: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """The folder of line-aligned files, and the pair that they are of.

    Raises:
        DataError: they are not two sides of training text in one folder.
    """
    folder, plain = files_[0].parent, [each.name.removesuffix(".gz") for each in files_]
    check_formats(files_)
    named = [name for name in plain if name.partition(".")[0] in NAMES["train"] and name.count(".") == 1]
    languages = sorted({name.partition(".")[2] for name in named}, key=lambda each: (each == INTO, each))
    if len(languages) != 2 or any(each.parent != folder for each in files_):
        raise DataError(
            f"{files_[0]}: name a folder with text, two files train.LANG[.gz] beside each other, or files that hold both sides "
            f"({', '.join(SUFFIXES)})"
        )
    check_codes(folder, languages)
    return folder, wanted or ["-".join(languages)]


def check_formats(files_: Sequence[Path]) -> None:
    """Raises a DataError if a file is in a format that is not read."""
    for each in files_:
        if Path(each.name.removesuffix(".gz")).suffix.lower() in FOREIGN:
            raise unread(each)


def check_codes(place: Path, languages: Sequence[str]) -> None:
    """Raises a DataError if the ending of a file names a language with a hyphen, which separates those of a pair."""
    for name in languages:
        if "-" in name:
            raise DataError(
                f"{place}: train.{name}: a hyphen stands between the languages of a pair; call the files of this language "
                f".{name.replace('-', '_')}"
            )


def find_rows(files_: Sequence[Path], wanted: Sequence[str]) -> Found:
    """The text in files that hold both sides; which split a file is of is in its name.

    Raises:
        DataError: a file is of another kind, two are of one split, or there is none for validation.
    """
    found = Found(None)
    check_formats(files_)
    for path in files_:
        if not format_of(path.name):
            raise DataError(f"{path}: holds one side; name line-aligned files, or files of {', '.join(SUFFIXES)}")
        words = re.split(r"[^a-z]+", path.name.lower())
        split = next((split for split, names in NAMES.items() if set(names) & set(words)), "train")
        if split in found.splits:
            raise DataError(f"{path}: is of the {split} text, as {found.splits[split]} is; put them into one file")
        found.splits[split] = str(path)
    for split in ("train", "validation"):
        if split not in found.splits:
            raise DataError(f"no {split} text: name a file with {' or '.join(NAMES[split])} in its name")
    pairs = pairs_of(wanted) or [pair_of(Path(found.splits["train"]))]
    where: dict[str, Any] = found.splits
    data = DataConfig(pairs=list(map(str, pairs)), **where)
    for split in found.splits:
        for pair in pairs:
            counts = [len(row.target.split()) for row in open_rows(data, split, pair)]
            found.sizes.setdefault(pair, {})[split] = len(counts)
            found.words += sum(counts) * (split == "train")
    return checked(found)


def pair_of(path: Path) -> LanguagePair:
    """The languages that the first line, or the columns, of a file name.

    Raises:
        DataError: these are not two.
    """
    kind = format_of(path.name)
    if kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            schema = pyarrow.parquet.read_schema(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path}: not readable as parquet ({error})") from error
        inside = schema.field("translation").type if "translation" in schema.names else schema
        names = [inside.field(number).name for number in range(inside.num_fields)] if inside is not schema else schema.names
    else:
        first = next((line for _, line in read_lines(path) if line.strip()), "")
        try:
            names = first.split("\t") if kind == "tsv" else fields_of(json.loads(first))
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise DataError(f"{path}: its first line is no JSON object; one a line is expected") from error
    languages = [name for name in map(str.strip, names) if (SHORT if kind == "tsv" else CODE).fullmatch(name)]
    if len(languages) == 3 and NUMBER in languages:
        languages.remove(NUMBER)
    if len(languages) != 2:
        raise DataError(
            f"{path}: says of no two columns which languages they are; say which pairs are meant, such as --pairs de-en"
        )
    return LanguagePair(*sorted(languages, key=lambda each: each == INTO))


def fields_of(record: Any) -> list[str]:
    """The names of a record's fields, or of those in its `translation`."""
    return list(record.get("translation", record))


def add_split(found: Found, folder: Path, pair: LanguagePair, split: str) -> None:
    """Counts a split of a pair, if there is one.

    Raises:
        DataError: it is called otherwise than that of other pairs, or its sides have not as many lines.
    """
    sides = (pair.source, pair.target)
    name = next((name for name in NAMES[split] if all(side(folder, name, each) for each in sides)), None)
    if name is None:
        return
    if found.splits.setdefault(split, name) != name:
        raise DataError(f"{folder}: its {split} text is called {name}, that of others {found.splits[split]}; call all alike")
    source, target = (list(counted(side(folder, name, each))) for each in sides)
    if len(source) != len(target):
        raise DataError(
            f"{folder}: {name}.{pair.source} has {len(source):,} lines, {name}.{pair.target} {len(target):,}; line n of one "
            "has to translate line n of the other"
        )
    found.sizes.setdefault(pair, {})[split] = len(source)
    if split == "train":
        found.words += sum(target)


def pairs_in(place: Path) -> list[LanguagePair]:
    """The language pairs of a folder, by its folders' names, or by its files' endings.

    Raises:
        DataError: there are none, or more than two languages side by side.
    """
    inside = sorted(path.name for path in place.iterdir() if path.is_dir() and PAIR.fullmatch(path.name))
    named = [LanguagePair.parse(name) for name in inside]
    with_text = [pair for pair in named if any(side(place / str(pair), "train", each) for each in (pair.source, pair.target))]
    if with_text:
        return with_text
    training = (path.name.removesuffix(".gz") for path in place.iterdir() if path.is_file())
    languages = sorted({name.partition(".")[2] for name in training if name.startswith("train.") and name.count(".") == 1})
    check_codes(place, languages)
    if len(languages) == 2:
        ordered = sorted(languages, key=lambda each: each == INTO)
        return [LanguagePair(*ordered)]
    if len(languages) == 1:
        raise DataError(f"{place}: has training text in {languages[0]} only; its translation has to lie beside it")
    if languages:
        some = " ".join(f"{source}-{target}" for source, target in combinations(languages[:3], 2))
        raise DataError(
            f"{place}: has training text in {', '.join(languages)}; say which pairs are meant, such as --pairs {some}"
        )
    if named:
        return named
    raise DataError(f"{place}: has no text (train.LANG[.gz] of two languages, or folders such as de-en with it)")


def side(folder: Path, name: str, language: str) -> Path | None:
    """One side of a split, plain or packed; None if there is none."""
    return next((path for end in ("", ".gz") if (path := folder / f"{name}.{language}{end}").is_file()), None)


def counted(path: Path | None) -> Iterator[int]:
    """Words of every line.

    Raises:
        DataError: the file cannot be read.
    """
    if path is None:
        return
    for _, line in read_lines(path):
        yield len(line.split())


# ---- what suits it


def planned(found: Found, accelerated: bool) -> Plan:
    """What suits that much text on a machine with an accelerator, or without."""
    rule = next(row for row in rules()["sizes"] if found.pairs <= row["up_to"])
    shape, widest = rule["model"], rules()["processor"]["widest"]
    width = shape["d_model"] if accelerated else min(shape["d_model"], widest)
    share = width / shape["d_model"]
    a_pass = found.words * rules()["pieces_a_word"] / (rules()["filled"] * rules()["tokens"])
    updates = max(100, round(rule["passes"] * a_pass, -2))
    several = len(found.sizes) > 1
    method = rules()["several_pairs" if several else "one_pair"]["method"]
    return Plan(found, rule, method, width, int(shape["ffn"] * share), shape["heads"], int(updates), max(a_pass, 1e-9))


def written(plan: Plan, output: str, estimate: str = "") -> str:
    """The recipe as YAML, with the reasons beside the fields.

    Args:
        plan: what suits the text.
        output: the run's folder.
        estimate: how long it will take.
    """
    found, rule = plan.found, plan.rule
    sizes = ", ".join(f"{pair} {each['train']:,}" for pair, each in found.sizes.items())
    splits = "".join(f"  {split}: {scalar(name)}\n" for split, name in found.splits.items() if split != name)
    untested = [str(pair) for pair, each in found.sizes.items() if "test" not in each]
    validated = max(20, plan.updates // 20)
    several = len(found.sizes) > 1
    lines = [
        f"# {found.pairs:,} sentence pairs to train on: {sizes}."
        if len(sizes) < 90
        else f"# {found.pairs:,} sentence pairs to train on.",
        *([f"# {estimate}"] if estimate else []),
        f"method: {plan.method:<23} # one training, students of every depth; plain trains one model",
        "data:",
        f"  pairs: [{', '.join(map(str, found.sizes))}]",
        *([f"  data_dir: {scalar(str(found.folder))}"] if found.folder else []),
        *splits.splitlines(),
        "tokenizer:",
        f"  vocab_size: {rule['vocab_size']:<17} # for {found.pairs:,} pairs: {rule['source']}",
        "model:",
        "  encoder_layers: 6             # a deep encoder is cheap where it matters: it runs once a sentence",
        "  decoder_layers: 6             # students with 2 are several times as fast",
        f"  d_model: {plan.width}",
        f"  encoder_ffn_dim: {plan.inner}",
        f"  decoder_ffn_dim: {plan.inner}",
        f"  encoder_attention_heads: {plan.heads}",
        f"  decoder_attention_heads: {plan.heads}",
        f"  dropout: {rule['dropout']:<20} # less text is seen more often and needs more",
        "training:",
        f"  output_dir: {scalar(output)}",
        f"  max_steps: {plan.updates:<18} # about {plan.updates / plan.updates_a_pass:.0f} passes",
        f"  max_tokens: {rules()['tokens']:<17} # of an update; lower it if memory runs out, and train longer",
        f"  learning_rate: {rule['learning_rate']}",
        f"  warmup_steps: {plan.updates // 10}",
        f"  eval_steps: {validated:<17} # the best by validation is kept",
        f"  logging_steps: {max(10, validated // 4)}",
    ]
    if several:
        shown = rules()["several_pairs"]
        lines.append(f"  temperatures: {shown['temperatures']}             # {shown['source']}")
    if untested:
        of = f" of {', '.join(untested)}" if len(untested) < len(found.sizes) else ""
        lines += ["evaluation:", f"  splits: [validation]          # there is no test text{of}"]
    return "\n".join(lines) + "\n"


def scalar(text: str) -> str:
    """A text as a value in YAML: as it is where that means the same, else in quotes."""
    try:
        plain = yaml.safe_load(f"- {text}") == [text]
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


def check_recipe_place(path: Path) -> None:
    """Raises a RecipeError if no recipe can be written there; better known before the text is read."""
    if path.exists():
        raise RecipeError(f"--recipe: {path} is there already; move it, or name another")
    above = next(each for each in path.absolute().parents if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise RecipeError(f"--recipe: {path} cannot be written in {above}; name another place")


def save_recipe(text: str, path: Path) -> None:
    """Writes a new recipe.

    Raises:
        RecipeError: something is there already, or it cannot be written.
    """
    check_recipe_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise RecipeError(f"--recipe: {path} cannot be written ({error.strerror or error})") from error
