"""Fields of recipes: values of YAML reach a dataclass as they are, command-line words by the type of their field.

YAML is read by its 1.2 rules, as JSON is and as people expect: `no`, `on`, `010`, `1:30`, `2024_01` and dates are text, and
`5e-4` is a number. What is written quotes all that readers of either version might take for something else.
"""

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from hf_paretokd.errors import OptionError, ParetoKDError, RecipeError

Section = TypeVar("Section")
FLOAT = r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
SCALARS = (  # tag, what it looks like, first characters
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "-?(0|[1-9][0-9]*)", list("-0123456789")),
    ("float", FLOAT, list("-+.0123456789")),
)


class Reader(yaml.SafeLoader):
    """Reads YAML 1.2's plain scalars, and refuses a key that stands twice in one mapping."""

    yaml_implicit_resolvers: typing.ClassVar[dict[str, list]] = {
        "<": yaml.SafeLoader.yaml_implicit_resolvers["<"],  # merged mappings
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A mapping; of two equal keys one would be lost."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class Writer(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as something else."""


for name, looks, first in SCALARS:
    for side in (Reader, Writer):
        side.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"^({looks})$"), first)


def written_text(writer: Writer, text: str) -> yaml.ScalarNode:
    """Text, in double quotes where it holds a character at which YAML ends lines: other styles would fold it to a space."""
    lines = any(character in text for character in "\x85\u2028\u2029")
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style='"' if lines else None)


Writer.add_representer(str, written_text)


def read_yaml(text: str) -> Any:
    """What a YAML text says; raises `yaml.YAMLError`."""
    reader = Reader(text)
    try:
        return reader.get_single_data()
    finally:
        reader.dispose()


def write_yaml(value: Any) -> str:
    """A value as YAML, its keys in their order."""
    return yaml.dump(value, Dumper=Writer, sort_keys=False, allow_unicode=True)


def parse_section(kind: type[Section], fields: Mapping[str, Any], where: str) -> Section:
    """A dataclass from a mapping of values.

    Raises:
        RecipeError: a field is unknown or its value has the wrong type.
    """
    values = typed_fields(kind, fields, where)
    try:
        return kind(**values)
    except ParetoKDError as error:
        raise type(error)(f"{where}: {error}" if where not in str(error) else str(error)) from error
    except (ValueError, TypeError, ImportError) as error:
        raise RecipeError(f"{where}: {' '.join(str(error).split())}") from error


def typed_fields(kind: type, fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of a mapping as a dataclass declares them, without what it leaves out.

    Raises:
        RecipeError: a field is unknown or its value has the wrong type.
    """
    hints = field_types(kind)
    for name in fields:
        if name not in hints:
            raise RecipeError(f"{where}: unknown field {name!r}{suggestion(str(name), list(hints))}")
    return {name: typed(hints[name], name, value, f"{where}: field {name}") for name, value in fields.items()}


@cache
def field_types(kind: type) -> dict[str, Any]:
    """The types that a dataclass declares for the arguments of its constructor."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def field_defaults(kind: type) -> dict[str, Any]:
    """What a dataclass takes where nothing is given; None for fields that have to be."""
    found = {}
    for field in dataclasses.fields(kind):
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
        found[field.name] = made if field.default is dataclasses.MISSING else field.default
    return found


def typed(hint: Any, name: str, value: Any, place: str, kind: type[RecipeError] = RecipeError) -> Any:
    """A value of YAML as the type of its field; whole numbers are taken where text is expected, one value for a list of one.

    Args:
        hint: the type.
        name: the field.
        value: what is given.
        place: what errors name.
        kind: of error.

    Raises:
        RecipeError: it has another type.
    """
    if value is False and name.endswith("_strategy"):
        value = "no"  # which YAML 1.1 takes for false
    for each in alternatives(hint):  # `OptimizerNames | str` and its like would take any text
        if isinstance(each, type) and issubclass(each, Enum) and isinstance(value, str) and value not in list(each):
            names = [member.value for member in each]
            raise kind(f"{place}: {value!r} is not one of {', '.join(names)}")
    if isinstance(value, str) and "\0" in value:
        raise kind(f"{place}: holds a NUL character")
    adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    for strict, form in forms(value):
        try:
            return adapter.validate_python(form, strict=strict)
        except ValidationError:
            continue
    quoted = "; put text in quotes" if str in alternatives(hint) and isinstance(value, bool | float) else ""
    raise kind(f"{place}: invalid {type_name(hint)} value: {value!r}{quoted}")


def forms(value: Any) -> Iterator[tuple[bool, Any]]:
    """How a value may be taken, the most literal way first, and whether its type has to be exact."""
    for form in (value,) if isinstance(value, list | dict) else (value, [value]):
        yield True, form
        parts = form if isinstance(form, list) else [form]
        if not any(isinstance(part, bool) for part in parts):
            yield False, form  # text that is a number, or the other way round
        if any(type(part) is int for part in parts):
            spelled = [str(part) if type(part) is int else part for part in parts]
            yield True, spelled if isinstance(form, list) else spelled[0]


def typed_words(kind: type, name: str, words: Sequence[str], option: str) -> Any:
    """The words of one command-line option as the type of its field: text where that is text, YAML where it is not.

    Args:
        kind: a dataclass.
        name: its field.
        words: several are a list, none stands for true.
        option: what errors name, such as `--data.pairs`.

    Raises:
        OptionError: the field is unknown, the words do not fit its type, or there are none and it is no switch.
    """
    hints = field_types(kind)
    if name not in hints:
        raise OptionError(f"{option}: unknown field {name!r}{suggestion(name, list(hints))}")
    types = alternatives(hints[name])
    if not words:
        if bool not in types:
            raise OptionError(f"{option}: a value is missing")
        return True
    element = next((typing.get_args(each)[0] for each in types if typing.get_origin(each) is list), None)
    inside = element is not None and str in alternatives(element)
    parsed = [parsed_word(word, types, str in types or inside, option) for word in words]
    return typed(hints[name], name, parsed if len(parsed) > 1 else parsed[0], option, OptionError)


def parsed_word(word: str, types: Sequence[Any], text: bool, option: str) -> Any:
    """One word: as it is where `text` is expected, but for `null` and for lists and mappings where these are possible."""
    containers = {"[": list, "{": dict}
    other = any((typing.get_origin(each) or each) is containers.get(word[:1]) for each in types)
    if text and not other and not (word == "null" and type(None) in types):
        return word
    try:
        return read_yaml(word)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise OptionError(f"{option}: {word!r} is not a value in YAML or JSON") from error


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types that a union allows, or the one that is none."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, type(int | str)) else (hint,)


def type_name(hint: Any) -> str:
    """A type as it is written in code."""
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def suggestion(name: object, known: Sequence[str]) -> str:
    """What may have been meant by a name, which YAML may have read as a number, in brackets, or nothing."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})" if len(known) < 12 else ""
