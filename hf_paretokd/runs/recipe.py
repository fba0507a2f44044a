"""Recipes: one YAML file that says everything about a run, with every field open to overrides.

A recipe has the sections `data`, `tokenizer`, `model`, `training`, `evaluation` and `card`, and may have one named after each
method, such as `all_in_one`, whose fields join `training` when that method runs and lie idle when another does.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_paretokd.data.corpus import DataConfig
from hf_paretokd.data.languages import Direction, directions
from hf_paretokd.data.pairs import LanguagePair, source_tags
from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.data.tokenizer import TokenizerConfig
from hf_paretokd.errors import OptionError, RecipeError
from hf_paretokd.hub.card import card_languages
from hf_paretokd.inference.decoding import check_beams, check_engine
from hf_paretokd.methods import registry
from hf_paretokd.models.building import ModelConfig
from hf_paretokd.runs.fields import parse_section, read_yaml, suggestion, typed_fields, typed_words, write_yaml
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.trainer import TranslationTrainer
from hf_paretokd.utils.choices import ENGINES
from hf_paretokd.utils.files import write_whole

SCORED_SPLITS = ("validation", "test")


@dataclass
class EvaluationConfig:
    """How the finished models are scored.

    Args:
        splits: which of `validation` and `test` are translated.
        num_beams: beam width, 1 for greedy search.
        engine: `transformers`, or `ctranslate2` (float32, on the CPU, faster; it has to be installed).
        depths: students to score; default: all candidates.
        high_resource: pairs that count as high-resource (HRL), the others as low-resource; default: the larger half.
        baselines: folders of other runs, or their `results.json`, to be drawn beside the models of this one.
        original: folder or Hub id of the model that exists, from which the training started: it is scored and measured first,
            and all others are compared with it.
    """

    splits: list[str] = dataclasses.field(default_factory=lambda: ["test"])
    num_beams: int = 1
    engine: str = "transformers"
    depths: list[str] | None = None
    high_resource: list[str] | None = None
    baselines: list[str] = dataclasses.field(default_factory=list)
    original: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise RecipeError(f"evaluation.engine: {self.engine!r} is not one of {', '.join(ENGINES)}")
        for split in self.splits:
            if split not in SCORED_SPLITS:
                raise RecipeError(f"evaluation.splits: {split!r} is not one of {', '.join(SCORED_SPLITS)}")
        check_beams(self.num_beams, "evaluation.")


@dataclass
class CardConfig:
    """What model cards say beyond what was measured.

    Args:
        license: of the models, as the Hub abbreviates it, such as `cc-by-4.0`; it has to suit the training text.
        datasets: Hub ids of the training text; default: `data.hub`.
        test_name: how the scored text is called, such as `Multi30k test_2016_flickr`; default: the name of the split.
        example: a source text for the snippets; default: one of the scored text.
        languages: of the pairs by ISO 639 or BCP 47, such as `[de, zh-Hant]`; default: the codes of the pairs.
        limitations: sentences about what the models are not good for.
    """

    license: str | None = None
    datasets: list[str] = dataclasses.field(default_factory=list)
    test_name: str | None = None
    example: str | None = None
    languages: list[str] = dataclasses.field(default_factory=list)
    limitations: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if unknown := card_languages((), self.languages)[2]:
            raise RecipeError(f"card.languages: {unknown[0]!r} is no ISO 639 code, such as de or zh-Hant")


@dataclass
class ShrinkConfig:
    """What comes before a model that exists is trained further (`model.from_pretrained`), if a recipe has this section.

    Args:
        text: files of text in the source language, which the model translates for its students; `{pair}`, `{source}` and
            `{target}` are filled in. Default: the sources of the training text.
        vocab_size: entries of the smaller vocabulary; default: special tokens, characters and all pieces of the text.
        num_beams: beam width of the translations.
        engine: that makes them: `transformers` or `ctranslate2`.
        quantization: of CTranslate2.
        held_out: translations that are kept for validation, and as many for the test, where there is no parallel text for it.
        pickled_weights: read weights that are in `pytorch_model.bin` only: tensors and nothing else.
    """

    text: list[str] = dataclasses.field(default_factory=list)
    vocab_size: int | None = None
    num_beams: int = 5
    engine: str = "transformers"
    quantization: str = "float32"
    held_out: int = 500
    pickled_weights: bool = False

    def __post_init__(self) -> None:
        check_engine(self.engine, self.quantization, "shrink.")
        check_beams(self.num_beams, "shrink.")
        for name in ("vocab_size", "held_out"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RecipeError(f"shrink.{name}: {value} is not 1 or more")


@dataclass
class Recipe:
    """A run in sections.

    Args:
        method: how it is trained.
        data, tokenizer, model, evaluation, card, shrink: the sections.
        raw: the mapping it was built from, overrides included.
        where: its name in errors.
        overridden: (section, field) of everything that was overridden; section None stands for the method.
        trained_pairs: the pairs of a run that is read, whichever of them are asked for now.
    """

    method: str
    data: DataConfig
    tokenizer: TokenizerConfig
    model: ModelConfig
    evaluation: EvaluationConfig
    card: CardConfig
    shrink: ShrinkConfig
    raw: dict[str, Any]
    where: str = "recipe"
    overridden: Sequence[tuple[str | None, str]] = ()
    trained_pairs: Sequence[LanguagePair] = ()

    @property
    def training_fields(self) -> dict[str, Any]:
        """The fields of `training` and of the method's own section."""
        return {**(self.raw.get("training") or {}), **(self.raw.get(self.method) or {})}

    @cached_property
    def training(self) -> TranslationConfig:
        """The training arguments; made when they are asked for, because a run can be read where it could not be trained."""
        return parse_section(self.trainer_class.config_class, self.training_fields, f"{self.where}: training")

    def directions(
        self, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig | None = None
    ) -> dict[LanguagePair, Direction]:
        """What a model is told of each pair, as it has learnt it.

        Args:
            tokenizer: the model's.
            config: the model's; None for one that is new.

        Raises:
            TokenizerError, RecipeError: as `hf_paretokd.data.languages.directions`.
        """
        tagged = any(source_tags(self.trained_pairs or self.data.parsed_pairs, self.data.target_tags).values())
        rule, prefix = "always" if tagged else "needed", self.data.source_prefix
        return directions(tokenizer, self.data.parsed_pairs, rule, prefix, config.to_dict() if config else None)

    @property
    def run_folder(self) -> Path:
        """`training.output_dir`."""
        return Path(str(self.training.output_dir))

    @property
    def trainer_class(self) -> type[TranslationTrainer]:
        """The trainer of the method."""
        return registry.trainer_of(self.method)

    @property
    def peer_seeds(self) -> list[int]:
        """Seeds of the models' initialisation: `training.seed`, and others derived from it for further peers."""
        first, peers = self.training.seed, len(self.training.temperatures)
        return [first, *(derive_seed(first, "peer", peer) for peer in range(1, peers))]

    def split_by_size(self, sizes: Mapping[str, int]) -> None:
        """Takes the larger half of several pairs for high-resource, unless the recipe says which are."""
        if self.evaluation.high_resource is None and len(sizes) > 1:
            ranked = sorted(sizes, key=sizes.__getitem__, reverse=True)
            self.evaluation.high_resource = ranked[: len(ranked) // 2]
            self.raw["evaluation"] = {**(self.raw.get("evaluation") or {}), "high_resource": self.evaluation.high_resource}

    def save(self, path: Path) -> None:
        """Writes the recipe with all overrides applied."""
        write_whole(path, write_yaml(self.raw))


SECTIONS = {
    "data": DataConfig,
    "tokenizer": TokenizerConfig,
    "model": ModelConfig,
    "evaluation": EvaluationConfig,
    "card": CardConfig,
    "shrink": ShrinkConfig,
}


def load_recipe(path: str | Path, overrides: Sequence[str] = (), trainable: bool = True, where: str | None = None) -> Recipe:
    """Reads a recipe.

    Args:
        path: a YAML file.
        where: what errors name instead of the path, for a recipe that the user has not named.
        trainable: whether the training arguments have to be possible on this machine; their names and types are checked anyway.
        overrides: command-line words: `--section.field value` for any section, `--field value` for training arguments;
            a word is read by the type of its field (text as it is, everything else as YAML, so JSON works), a switch without
            one means true.

    Raises:
        RecipeError: the file is missing or malformed, or a field is unknown or has an impossible value; says which.
    """
    path = Path(path)
    try:
        raw = read_yaml(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: expected a mapping with the sections method, {', '.join(SECTIONS)} and training")
    known = ["method", *SECTIONS, "training", *registry.method_names()]
    for name, value in raw.items():
        if name not in known:
            raise RecipeError(f"{path}: unknown section {name!r}{suggestion(name, known)}")
        if name != "method" and not isinstance(value, dict | None):
            raise RecipeError(f"{path}: section {name!r} must be a mapping of fields")
    pairs = (raw.get("data") or {}).get("pairs") or ()
    overridden = override(raw, overrides, where or str(path))
    if not trainable and ("data", "pairs") in overridden and isinstance(raw.get("evaluation"), dict):  # of other pairs
        grouped = [pair for pair in raw["evaluation"].get("high_resource") or () if pair in raw["data"]["pairs"]]
        if ("evaluation", "high_resource") not in overridden:
            raw["evaluation"] = {**raw["evaluation"], "high_resource": grouped or None}
    recipe = build_recipe(raw, where or str(path), trainable)
    recipe.overridden = overridden
    if not trainable and isinstance(pairs, list):
        recipe.trained_pairs = [LanguagePair.parse(pair) for pair in pairs]
    return recipe


def build_recipe(raw: Mapping[str, Any], where: str = "recipe", trainable: bool = True) -> Recipe:
    """A recipe from a mapping of sections; errors name `where`."""
    method = method_section(raw, where)
    sections: dict[str, Any] = {
        name: parse_section(kind, raw.get(name) or {}, f"{where}: {name}") for name, kind in SECTIONS.items()
    }
    recipe = Recipe(method=method, raw=dict(raw), where=where, **sections)
    for pair in recipe.evaluation.high_resource or ():
        if pair not in recipe.data.pairs:
            raise RecipeError(f"{where}: evaluation.high_resource: {pair!r} is not one of data.pairs")
    for name, value in recipe.training_fields.items():
        if str(name).endswith("token") and value:
            raise RecipeError(
                f"{where}: training.{name}: a secret would be written into the run folder; use `hf auth login` or HF_TOKEN"
            )
    for name in set(registry.method_names()) - {method}:  # they lie idle, but not misspelt
        typed_fields(registry.trainer_of(name).config_class, raw.get(name) or {}, f"{where}: {name}")
    if trainable:
        recipe.training  # noqa: B018 (made now, so that what is wrong with it is said now)
    else:
        typed_fields(recipe.trainer_class.config_class, recipe.training_fields, f"{where}: training")
    return recipe


def command_line_recipe(overrides: Sequence[str]) -> Recipe:
    """A recipe for work on a model without a run: data and evaluation fields from the command line."""
    raw: dict[str, Any] = {"method": "plain", "training": {"output_dir": "unused"}, "data": {}}
    override(raw, overrides, "command line")
    return build_recipe(raw, "command line", trainable=False)


def method_section(raw: Mapping[str, Any], where: str = "recipe") -> str:
    """The section with the fields of the recipe's own method; those of other methods lie idle.

    Raises:
        RecipeError: there is no such method.
    """
    method = raw.get("method", registry.DEFAULT)
    known = registry.method_names()
    if not isinstance(method, str) or method not in known:
        raise RecipeError(f"{where}: method {method!r} is not one of {', '.join(known)}")
    return method


def split_overrides(words: Sequence[str]) -> list[tuple[str | None, str, list[str]]]:
    """(section, field, words) of every override; section None stands for the method.

    Raises:
        OptionError: a word belongs to none.
    """
    found: list[tuple[str | None, str, list[str]]] = []
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, text = word[2:].partition("=")
            section, dot, field = name.partition(".")
            place = (section, field) if dot else (None if name == "method" else "training", name)
            found.append((*place, [text] if equals else []))
            closed = bool(equals)
        elif found and not closed:
            found[-1][2].append(word)
        else:
            raise OptionError(f"{word!r}: expected an override such as --max_steps 100 or --model.d_model 256")
    return found


def override(raw: dict[str, Any], words: Sequence[str], where: str) -> list[tuple[str | None, str]]:
    """Puts command-line words into the sections of a recipe; returns (section, field) of each.

    Raises:
        OptionError: a section or a field is unknown, or a value does not fit it.
        RecipeError: the recipe's own method is unknown.
    """
    found = split_overrides(words)
    methods = registry.method_names()
    known = ["training", *SECTIONS, *methods]
    for section, _, values in found:
        if section is None:
            raw["method"] = values[0] if len(values) == 1 else values
            if raw["method"] not in methods:
                near = suggestion(str(raw["method"]), methods)
                raise OptionError(f"--method: {raw['method']!r} is no method{near}")
    method = method_section(raw, where)
    for section, field, values in found:
        if section is None:
            continue
        if section not in known:
            raise OptionError(f"--{section}.{field}: unknown section{suggestion(section, known)}")
        home = method if section == "training" and field in (raw.get(method) or {}) else section
        kind = SECTIONS.get(section) or registry.trainer_of(method if section == "training" else section).config_class
        value = typed_words(kind, field, values, f"--{field}" if section == "training" else f"--{section}.{field}")
        raw[home] = {**(raw.get(home) or {}), field: value}
    return [(section, field) for section, field, _ in found]
