"""Sequence-level distillation (Kim and Rush, 2016): a teacher translates text into a corpus that others learn from."""

import dataclasses
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.corpus import DataConfig, clean, load_text, text_places
from hf_paretokd.data.distilled import MONOLINGUAL, TRAINING, Provenance, fingerprint, read_provenance
from hf_paretokd.data.languages import Direction, check_tagged
from hf_paretokd.data.pairs import LanguagePair, filled_in
from hf_paretokd.data.readers import Row, read_lines
from hf_paretokd.errors import DataError, ModelError, RecipeError
from hf_paretokd.inference.decoding import check_beams, check_engine, decoder_of, translate
from hf_paretokd.layout import LOCK, PLAN, PROVENANCE, SHARDS, distilled_shard, distilled_sides
from hf_paretokd.models.files import load_checkpoint, load_config, model_folders
from hf_paretokd.runs.cluster import Cluster, Translating
from hf_paretokd.runs.recipe import command_line_recipe
from hf_paretokd.runs.run import run_around
from hf_paretokd.training.identity import weights_hash
from hf_paretokd.utils.files import check_apart, checksum, claimed, save_json, typed_json, write_whole
from hf_paretokd.utils.machine import described, fastest_device, moved
from hf_paretokd.utils.progress import Progress
from hf_paretokd.utils.text import one_line

SHARD = 1000  # sentences that are translated together; a kill costs no more
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Sentences of a language pair, as they go to the model and as they stand in the corpus."""

    texts: list[str]
    lines: list[str]


def distill(
    model: str,
    output: str | Path,
    text: Sequence[str] = (),
    num_beams: int = 5,
    engine: str = "transformers",
    quantization: str = "float32",
    max_tokens: int = 4096,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    again: bool = False,
    cluster: Cluster | None = None,
) -> Provenance:
    """Translates training sources, or monolingual text, into a corpus for `data.distilled_dir`; goes on where it was cut off.

    The corpus is an ordinary one, `PAIR/train.LANG`, with its record in `distilled.json`. Translations are kept every thousand
    sentences; the same call again after a kill translates what is missing.

    Args:
        model: the teacher: a run with one, a model of a run, or a checkpoint.
        output: folder for the corpus.
        text: files of monolingual source text, in which `{pair}`, `{source}` and `{target}` are filled in; default: the
            sources of the training text of the run that the teacher is of, or that `overrides` name.
        num_beams: 1 for greedy search.
        engine: `transformers` or `ctranslate2`.
        quantization: of CTranslate2.
        max_tokens: source tokens in a batch.
        overwrite: replace the finished corpus that is there, or begin anew where other work was cut off.
        overrides: words such as `--data.pairs de-en`.
        cluster: of Ray, whose workers translate; else this process does.
        again: take the finished corpus that is there, if it is of the same work, and nothing from a run around the teacher.

    Raises:
        RecipeError: an option does not fit, or the output is where something is read from.
        ModelError: the teacher cannot be used, or is several.
        DataError: the text cannot be used, or another corpus is in the output.
    """
    check_engine(engine, quantization)
    check_beams(num_beams)
    if max_tokens < 1:
        raise RecipeError(f"--max_tokens: {max_tokens} is not 1 or more")
    teacher, folder = one_model(model), Path(output)
    load_config(teacher)  # whether it is there
    run = None if again else run_around(teacher, overrides)
    recipe = run.recipe if run else command_line_recipe(overrides)
    data = recipe.data
    places = monolingual_places(data, text)
    files = list(dict.fromkeys(path for found in places.values() for path in found))
    read = files or text_places(data)
    check_apart(folder, [teacher, *([run.folder] if run else []), *read])
    check_output(folder, overwrite or again)
    lines = monolingual_lines(places) if files else training_lines(data)
    loaded, tokenizer = load_checkpoint(teacher)
    told = recipe.directions(tokenizer, loaded.config)
    if not run:
        check_tagged(tokenizer, told.values())
    sources = {pair: Sources(found, list(map(one_line, found))) for pair, found in lines.items()}
    plan = Provenance(
        model=str(model),
        weights=weights_hash(loaded),
        engine=engine,
        quantization=quantization,
        num_beams=num_beams,
        max_tokens=max_tokens,
        of=MONOLINGUAL if files else TRAINING,
        places=[str(path) for path in read],
        tags={str(pair): str(direction) for pair, direction in told.items()},
        lines={str(pair): len(found.lines) for pair, found in sources.items()},
        sources={str(pair): fingerprint(found.lines) for pair, found in sources.items()},
        machine=described(1, device_for(engine).type),
    )
    if again and (folder / PROVENANCE).is_file():
        record = read_provenance(folder)
        if not plan.same_work(record):
            raise DataError(
                f"{folder}: was made of other text, by another model or with other options; remove {folder.parent} to begin "
                "anew, or choose another output"
            )
        return record
    with claimed(folder, "--output"):
        plan = begin(folder, plan, overwrite)
        parts = missing_parts(folder, sources)
        made = by_cluster(cluster, parts, plan, told, teacher) if cluster else by_model(loaded, tokenizer, parts, plan, told)
        for seconds in keep_parts(made, sum(len(each.lines) for each in sources.values()), parts):
            plan = dataclasses.replace(plan, seconds=plan.seconds + seconds)
            save_plan(folder, plan)
        return finish(folder, plan, sources)


def device_for(engine: str) -> torch.device:
    """Where an engine translates."""
    return fastest_device() if engine == "transformers" else torch.device("cpu")


def one_model(name: str) -> str:
    """The checkpoint that is meant.

    Raises:
        ModelError: a run has several models.
    """
    found = model_folders(name)
    if len(found) > 1:
        raise ModelError(f"{name}: has several models; name the one that is to be the teacher: {', '.join(found)}")
    return found[0]


# ---- what is translated


def training_lines(data: DataConfig) -> dict[LanguagePair, list[str]]:
    """The sources of the training text as a training would see them, without text that was distilled for it."""
    return {pair: text.sources for pair, text in load_text(dataclasses.replace(data, distilled_dir=None), "train").items()}


def monolingual_places(data: DataConfig, text: Sequence[str]) -> dict[LanguagePair, list[Path]]:
    """The files of every language pair.

    Raises:
        RecipeError: pairs with several source languages are to be read from one file.
    """
    places = {pair: [Path(filled_in(name, pair, "--text")) for name in text] for pair in data.parsed_pairs}
    for pair in data.parsed_pairs:
        for other in data.parsed_pairs:
            if pair.source != other.source and set(places[pair]) & set(places[other]):
                raise RecipeError(
                    f"--text: {places[pair][0]} cannot be {pair.source} and {other.source}; put {{source}} into the name"
                )
    return places


def monolingual_lines(places: Mapping[LanguagePair, Sequence[Path]]) -> dict[LanguagePair, list[str]]:
    """The lines of files, each once; without those that are blank or that no training would take.

    Raises:
        DataError: a file cannot be read, or nothing is left of a pair.
    """
    found = {}
    for pair, paths in places.items():
        rows = (Row(line, line, f"{path}:{number}") for path in paths for number, line in read_lines(path))
        try:
            kept = clean(rows, pair, "train")
        except DataError as error:
            raise DataError(f"--text: {', '.join(map(str, paths))}: nothing to translate ({error})") from error
        for reason, count in kept.skipped.items():
            logger.warning("%s: left out %d lines: %s (first: %s)", pair, count, reason, kept.examples[reason])
        found[pair] = kept.sources
    return found


# ---- the work, from plan to corpus


def check_output(folder: Path, overwrite: bool) -> None:
    """Raises a DataError if something is in the way."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"--output: {folder} is a file; name a folder")
    if (folder / PROVENANCE).is_file():
        if not overwrite:
            raise DataError(f"{folder}: holds a finished distilled corpus; give --overwrite to replace it, or another --output")
    elif not (folder / SHARDS).is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise DataError(f"--output: {folder} is there already and is no distilled corpus; choose another")


def begin(folder: Path, plan: Provenance, overwrite: bool) -> Provenance:
    """Writes the plan, or goes on with that which is there; returns it with the seconds it has taken so far.

    Raises:
        DataError: what is there is of other work.
    """
    path = folder / SHARDS / PLAN
    try:
        begun = typed_json(Provenance, path) if path.is_file() else None
    except (OSError, ValueError) as error:
        if not overwrite:
            raise DataError(f"{path}: cannot be read; give --overwrite to begin anew") from error
        begun = None
    if begun and plan.same_work(begun):
        plan = dataclasses.replace(plan, seconds=begun.seconds)
    elif begun and not overwrite:
        raise DataError(
            f"{folder}: holds the unfinished work of another teacher, other text or other options ({begun.model}, "
            f"{begun.decoding}); give --overwrite to begin anew, or another --output"
        )
    else:
        shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_plan(folder, plan)
    return plan


def save_plan(folder: Path, plan: Provenance) -> None:
    """Writes what is being done, and the seconds it has taken."""
    save_json(dataclasses.asdict(plan), folder / SHARDS / PLAN)


def remove(folder: Path) -> None:
    """Deletes a finished corpus by its record, and nothing else that may be there."""
    record = folder / PROVENANCE
    try:
        pairs = typed_json(Provenance, record).lines if record.is_file() else {}
    except (OSError, ValueError):
        pairs = {}  # its files are written over, or left
    record.unlink(missing_ok=True)
    for pair in map(LanguagePair.parse, pairs):
        for path in distilled_sides(folder, pair.source, pair.target):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Part:
    """Sentences that are translated together, and the file for what is made of them."""

    pair: LanguagePair
    texts: list[str]
    path: Path


def missing_parts(folder: Path, sources: Mapping[LanguagePair, Sources]) -> list[Part]:
    """What was not translated yet."""
    parts = (
        Part(pair, found.texts[start : start + SHARD], distilled_shard(folder, str(pair), number))
        for pair, found in sources.items()
        for number, start in enumerate(range(0, len(found.lines), SHARD))
    )
    return [part for part in parts if not part.path.is_file()]


Made = Iterator[tuple[Part, Sequence[str]]]  # parts with their translations
Told = Mapping[LanguagePair, Direction]  # what every pair is translated by


def by_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, parts: Sequence[Part], plan: Provenance, told: Told
) -> Made:
    """Translates parts in this process, in order."""
    decoder = decoder_of(moved(model.eval(), device_for(plan.engine)), tokenizer, plan.engine, plan.quantization)
    options = (plan.num_beams, plan.max_tokens, None, decoder)
    for part in parts:
        yield part, translate(model, tokenizer, part.texts, *options, told[part.pair])


def by_cluster(cluster: Cluster, parts: Sequence[Part], plan: Provenance, told: Told, teacher: str) -> Made:
    """Has workers translate parts, as they come."""
    items = [{"number": number, "texts": part.texts, "pair": str(part.pair)} for number, part in enumerate(parts)]
    for row in cluster.done(
        items,
        Translating,
        teacher=teacher,
        engine=plan.engine,
        quantization=plan.quantization,
        num_beams=plan.num_beams,
        max_tokens=plan.max_tokens,
        directions={str(pair): direction for pair, direction in told.items()},
    ):
        yield parts[row["number"]], row["lines"]


def keep_parts(made: Iterable[tuple[Part, Sequence[str]]], total: int, parts: Sequence[Part]) -> Iterator[float]:
    """Writes translations as they come; yields the seconds since those before."""
    there, begun = total - sum(len(part.texts) for part in parts), time.monotonic()
    with Progress(total, initial=there, unit=" sentences", desc="distilling", smoothing=0.05) as bar:
        for part, lines in made:
            write_whole(part.path, "".join(f"{one_line(line)}\n" for line in lines))
            bar.update(len(part.texts))
            yield time.monotonic() - begun
            begun = time.monotonic()


def finish(folder: Path, plan: Provenance, sources: Mapping[LanguagePair, Sources]) -> Provenance:
    """Puts the corpus together in the place of one that may be there, the record last."""
    remove(folder)
    targets = {}
    for pair, found in sources.items():
        shards = [distilled_shard(folder, str(pair), number) for number in range(-(-len(found.lines) // SHARD))]
        source, target = distilled_sides(folder, pair.source, pair.target)
        source.parent.mkdir(exist_ok=True)
        write_whole(source, "".join(f"{line}\n" for line in found.lines))
        write_whole(target, b"".join(path.read_bytes() for path in shards))
        targets[str(pair)] = checksum(target)
    record = dataclasses.replace(plan, targets=targets, seconds=round(plan.seconds, 3))
    save_json(dataclasses.asdict(record), folder / PROVENANCE)
    shutil.rmtree(folder / SHARDS, ignore_errors=True)
    return record
