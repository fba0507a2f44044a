"""A family of small models from a model that exists: its translations, a smaller vocabulary, then All-in-One training.

What is made before the training lies beside the run, in `RUN.start`: `original/` (where its weights had to be converted),
`distilled/`, `model/` (trimmed), `text/`, `shrink.json` (which the run keeps, too) and `training.yaml`, by which the run is
trained. Each is made once.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from hf_paretokd.data.corpus import ParallelText, load_text
from hf_paretokd.data.distilled import Provenance
from hf_paretokd.data.languages import known_tags
from hf_paretokd.data.pairs import LanguagePair, source_tags, target_tag
from hf_paretokd.data.readers import read_aligned
from hf_paretokd.errors import DataError, ModelError, RecipeError
from hf_paretokd.evaluation.proof import prove_trimming
from hf_paretokd.hub.card import license_of
from hf_paretokd.layout import (
    CARD,
    CONFIG,
    PICKLED_WEIGHTS,
    PLAIN_CHECKPOINT,
    WEIGHTS,
    RunLayout,
    StartLayout,
    distilled_sides,
)
from hf_paretokd.models.depth import widened
from hf_paretokd.models.files import (
    load_checkpoint,
    load_config,
    load_pickled,
    load_tokenizer,
    local_checkpoint,
    save_model,
)
from hf_paretokd.models.slicing import config_depth
from hf_paretokd.models.trimming import kept_pieces, piece_counts, trim_model, trim_tokenizer
from hf_paretokd.runs.distill import distill
from hf_paretokd.runs.recipe import Recipe, build_recipe
from hf_paretokd.runs.resolve import MODEL, expect
from hf_paretokd.runs.shrunk import Shrunk
from hf_paretokd.runs.text import check_depths
from hf_paretokd.training.identity import differences, weights_hash
from hf_paretokd.utils.files import check_apart, checksum, load_json, save_json, typed_json, whole_folder, write_whole

PROVED = 1000  # sentences
UNKNOWN = 0.1  # share of a text's pieces that are <unk>, above which it is hardly in the model's language
LATER = {"shrink.vocab_size": ("model", "record"), "shrink.held_out": ("text",)}  # options of later steps, and what they make
logger = logging.getLogger(__name__)


def begun(recipe: Recipe) -> Recipe:
    """Does what comes before the training, as far as it has not been done, and returns the recipe of the training itself.

    Raises:
        RecipeError, ModelError: the model is none that can be shrunk, or an option does not fit; before any text is read.
        DataError: the text cannot be used, or what was begun is of other text or another model.
    """
    start = StartLayout.of(recipe.run_folder)
    named = [recipe.model.from_pretrained, recipe.data.data_dir, *recipe.shrink.text]
    check_apart(recipe.run_folder, named, "training.output_dir")
    check_apart(start.folder, named, "training.output_dir")
    place = located(recipe)
    plan = planned(recipe, place)
    check_plan(plan, start, recipe.run_folder)
    model = checked_model(recipe, place, start)
    tokenizer = load_tokenizer(model)
    tagged = bool(known_tags(tokenizer))
    pairs, rule = recipe.data.parsed_pairs, "always" if tagged else "needed"
    tags = source_tags(pairs, rule)
    record = distilled(recipe, model, start, rule)
    save_json(plan, start.plan)  # now that the text could be read
    parallel = parallel_text(recipe)
    if not ((start.model / CONFIG).is_file() and start.record.is_file()):
        license_name = license_of(place / CARD)
        save_json(asdict(trimmed(recipe, model, license_name, record, parallel, tags, start)), start.record)
    write_text(recipe, start, pairs, parallel)
    raw = training_recipe(recipe, model, start, rule)
    built = build_recipe(raw, str(start.recipe))
    built.save(start.recipe)
    return built


def located(recipe: Recipe) -> Path:
    """The folder of the model that exists, downloaded if it is on the Hub.

    Raises:
        RecipeError: none is named, or what is named is no model.
        ModelError: it cannot be had.
    """
    config = recipe.model
    if not config.from_pretrained:
        raise RecipeError("model.from_pretrained: name the model that is to be shrunk")
    if not config.subfolder:
        expect(config.from_pretrained, MODEL)
    pickled = (PICKLED_WEIGHTS,) if recipe.shrink.pickled_weights else ()
    wanted = (*PLAIN_CHECKPOINT, CARD, *pickled)
    return Path(local_checkpoint(config.from_pretrained, config.revision, config.subfolder, wanted))


def planned(recipe: Recipe, place: Path) -> dict[str, Any]:
    """What decides all that comes before the training, but for what files of text hold."""
    files = [path for each in (WEIGHTS, PICKLED_WEIGHTS) if (path := place / each).is_file()]
    data = {f"data.{field}": getattr(recipe.data, field) for field in ("pairs", "data_dir", "train", "validation", "test")}
    options = {f"shrink.{field}": value for field, value in asdict(recipe.shrink).items()}
    return {"model": recipe.model.from_pretrained, "weights": [checksum(path) for path in files], **data, **options}


def check_plan(plan: Mapping[str, Any], start: StartLayout, run: Path) -> None:
    """Compares with what was begun beside the run; what depends on an option that is another now is made anew.

    Raises:
        DataError: it was begun with another model or text, or the training has begun since, or it was not begun here.
    """
    if not start.plan.is_file():
        there = [path for path in start.folder.glob("*") if not path.name.startswith(".")]  # of which some may be unfinished
        if set(there) - {start.original, start.distilled}:
            raise DataError(f"{start.folder}: is there already and was not begun here; choose another output")
        return
    known, now = load_json(start.plan), json.loads(json.dumps(plan))
    changed = {name for name in {*known, *now} if known.get(name) != now.get(name)}
    if changed and (changed - set(LATER) or RunLayout(run).recipe.exists()):
        raise DataError(
            f"{start.folder}: was begun otherwise ({'; '.join(differences(known, now))}); remove it to begin anew, or choose "
            "another output"
        )
    for name in changed:
        for path in (getattr(start, each) for each in LATER[name]):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


# ---- a: the model


def checked_model(recipe: Recipe, place: Path, start: StartLayout) -> str:
    """The model that exists, as a checkpoint that can be loaded; its weights are converted once if they have to be.

    Raises:
        ModelError: it is of another family, has no SentencePiece models, or only pickled weights and these may not be read.
        RecipeError: it knows other target languages, has no larger vocabulary, or nothing says what to translate.
    """
    name = recipe.model.from_pretrained
    if not recipe.shrink.text and not recipe.data.data_dir:
        raise RecipeError("shrink.text: name files of text in the source language (--text), or parallel text (--parallel)")
    for field in ("hub", "hub_config", "max_sentence_pairs", "max_length", "distilled_dir", "source_prefix"):
        if getattr(recipe.data, field):
            raise RecipeError(f"data.{field}: is not for a model that is shrunk; give parallel text as data.data_dir")
    if recipe.run_folder.is_file():
        raise RecipeError(f"training.output_dir: {recipe.run_folder} is a file; choose another")
    for section, field in recipe.overridden:
        if section == "tokenizer" or (section == "model" and field not in ("from_pretrained", "revision", "subfolder")):
            raise RecipeError(f"{section}.{field}: is of new models; that which is shrunk has its own")
    if "anchor" in (recipe.raw.get("all_in_one") or {}):
        raise RecipeError("all_in_one.anchor: is the trimmed model itself; leave it out")
    config = load_config(place)
    if config.model_type != "marian":
        raise ModelError(
            f"model.from_pretrained: {name} is a model of the family {config.model_type}; only Marian models are shrunk"
        )
    check_depths(recipe, config_depth(config.to_dict()))
    tokenizer = load_tokenizer(place)
    known, size = known_tags(tokenizer), recipe.shrink.vocab_size
    if size is not None and size >= len(tokenizer):
        raise RecipeError(f"shrink.vocab_size: {size} is not below the {len(tokenizer)} entries that the model has")
    for pair in recipe.data.parsed_pairs:
        if known and target_tag(pair.target) not in known:
            raise RecipeError(f"data.pairs: {name} does not know {target_tag(pair.target)}, but {', '.join(known)}")
    if any(place.glob("*.safetensors")):
        whole = recipe.model.revision or recipe.model.subfolder or Path(str(name)).exists()
        return str(place if whole else name)
    if not recipe.shrink.pickled_weights:
        raise ModelError(
            f"{name}: holds no {WEIGHTS}; with --shrink.pickled_weights the tensors of {PICKLED_WEIGHTS}, and nothing else, "
            "are read and written as safetensors"
        )
    if not (start.original / CONFIG).is_file():
        with whole_folder(start.original) as written:
            save_model(load_pickled(place), tokenizer, written)
    return str(start.original)


# ---- b: its translations


def distilled(recipe: Recipe, model: str, start: StartLayout, rule: str) -> Provenance:
    """The corpus of its translations, made or found."""
    options, data = recipe.shrink, recipe.data
    words = [f"--data.pairs={list(map(str, data.parsed_pairs))}", f"--data.target_tags={rule}"]
    if not options.text:
        words += [f"--data.{name}={getattr(data, name)}" for name in ("data_dir", "train")]
    how = (options.text, options.num_beams, options.engine, options.quantization)
    return distill(model, start.distilled, *how, overrides=words, again=True)


def parallel_text(recipe: Recipe) -> dict[str, dict[LanguagePair, ParallelText]]:
    """The user's own text by split, as far as there is any.

    Raises:
        DataError: the folder is none, or a file breaks a rule.
    """
    found: dict[str, dict[LanguagePair, ParallelText]] = {}
    for split in ("train", "validation", "test") if recipe.data.data_dir else ():
        for pair in recipe.data.parsed_pairs:
            try:
                found.setdefault(split, {}).update(load_text(replace(recipe.data, pairs=[str(pair)]), split))
            except DataError as error:
                if not str(error).startswith("no text for"):  # it is there, and something is wrong with it
                    raise
                logger.warning("no parallel text for %s (%s)", split, error)
    return found


# ---- c: the vocabulary


def trimmed(
    recipe: Recipe,
    model: str,
    license_name: str | None,
    record: Provenance,
    parallel: Mapping[str, Mapping[LanguagePair, ParallelText]],
    tags: Mapping[LanguagePair, str],
    start: StartLayout,
) -> Shrunk:
    """Writes the model with a smaller vocabulary, and proves on sentences that it does as before."""
    original, tokenizer = load_checkpoint(model)
    sources: list[str] = []
    targets: list[str] = []
    proved: list[str] = []
    for pair, tag in tags.items():
        rows = list(read_aligned(*distilled_sides(start.distilled, pair.source, pair.target)))
        own = parallel.get("train", {}).get(pair)
        ours = [tag + row.source for row in rows] + [tag + line for line in (own.sources if own else ())]
        sources += ours
        proved += ours[: -(-PROVED // len(tags))]
        targets += [row.target for row in rows] + list(own.targets if own else ())
    languages = {pair.target for pair in tags}
    counts = piece_counts(tokenizer, sources, targets)
    share = counts[0]["<unk>"] / max(1, counts[0].total())
    if share > UNKNOWN:
        logger.warning("%.0f %% of the text is unknown to the model; is it in its source language?", 100 * share)
    kept = kept_pieces(tokenizer, counts, languages, recipe.shrink.vocab_size)
    small = trim_model(original, kept)
    with whole_folder(start.model) as written:
        words = trim_tokenizer(tokenizer, kept, small.config, written)
        save_model(small, words, written)
    proof = prove_trimming((original.eval(), tokenizer), (small, words), kept, proved)
    if proof.problem:
        raise ModelError(f"{start.model}: {proof.problem}")
    extra = sum(map(len, parallel.get("train", {}).values()))
    untested = [str(pair) for pair in tags if pair not in parallel.get("test", {})]
    name, sizes = str(recipe.model.from_pretrained), (len(tokenizer), len(words))
    return Shrunk(name, weights_hash(original), license_name, record, extra, untested, sizes, proof)


# ---- d: the text and the training


def write_text(
    recipe: Recipe,
    start: StartLayout,
    pairs: list[LanguagePair],
    parallel: Mapping[str, Mapping[LanguagePair, ParallelText]],
) -> None:
    """Writes the corpus of the training: translations and parallel text, and what is held out of the former where need be."""
    if start.text.exists():
        return
    with whole_folder(start.text) as written:
        for pair in pairs:
            made = [
                (row.source, row.target) for row in read_aligned(*distilled_sides(start.distilled, pair.source, pair.target))
            ]
            rows, splits = iter(made), {}
            for split in ("validation", "test"):
                own = parallel.get(split, {}).get(pair)
                splits[split] = (
                    list(zip(own.sources, own.targets, strict=True)) if own else list(islice(rows, recipe.shrink.held_out))
                )
            held = {source for sides in splits.values() for source, _ in sides}
            rows = (row for row in rows if row[0] not in held)  # what is scored is not trained on
            own = parallel.get("train", {}).get(pair)
            splits["train"] = [*rows, *(zip(own.sources, own.targets, strict=True) if own else ())]
            if not all(splits.values()):
                raise RecipeError(f"shrink.held_out: {recipe.shrink.held_out} leaves no text of {pair} to train on; lower it")
            (written / str(pair)).mkdir()
            for split, sides in splits.items():
                for number, language in enumerate((pair.source, pair.target)):
                    lines = "".join(f"{side[number]}\n" for side in sides)
                    write_whole(written / str(pair) / f"{split}.{language}", lines)


def training_recipe(recipe: Recipe, model: str, start: StartLayout, rule: str) -> dict[str, Any]:
    """The recipe of the training: from the trimmed model, which anchors it, on the text that was written."""
    raw = {name: fields for name, fields in recipe.raw.items() if name not in ("shrink", "tokenizer")}
    data = {"pairs": recipe.data.pairs, "data_dir": str(start.text), "target_tags": rule}
    anchored = {"anchor": str(start.model), **(raw.get(recipe.method) or {})} if recipe.method == "all_in_one" else {}
    wanted = widened(config_depth(load_config(start.model).to_dict()), recipe.evaluation.depths or ())
    if anchored and wanted and "candidates" not in anchored:
        anchored["candidates"] = wanted
    record = typed_json(Shrunk, start.record)
    return {
        **raw,
        "data": data,
        "model": {"from_pretrained": str(start.model)},
        "evaluation": {"original": model, **(raw.get("evaluation") or {})},
        "card": {**(raw.get("card") or {}), "license": recipe.card.license or record.license},
        **({recipe.method: anchored} if anchored else {}),
    }
