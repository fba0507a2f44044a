"""What a name on the command line stands for: a run, a model, an export, a recipe, a name on the Hub, or what else."""

from dataclasses import dataclass
from pathlib import Path

from hf_paretokd.errors import ModelError, RecipeError
from hf_paretokd.layout import (
    CONFIG,
    CONVERTED_WEIGHTS,
    IDENTITY,
    ONNX,
    PROVENANCE,
    TRAINER_STATE,
    WEIGHTS,
    RunLayout,
    StartLayout,
    checkpoint_step,
)
from hf_paretokd.runs.run import find_members, is_run

RECIPE, RUN, MODEL, EXPORT = "a recipe", "a run", "a model", "an export for CTranslate2"  # what commands take
HUB, OTHER = "a name on the Hub", "something else"
ALSO_ON_HUB = {MODEL: f"{MODEL} (a folder or a name on the Hub)"}


@dataclass(frozen=True)
class Thing:
    """What a name stands for.

    Args:
        kind: one of the kinds that commands take, `HUB`, or `OTHER`.
        says: the same in words, with what belongs to it.
    """

    kind: str
    says: str


def look(name: str) -> Thing:
    """What a name stands for, by what lies there; nothing is loaded."""
    path = Path(name)
    if not name.strip():
        return Thing(OTHER, "no name")
    if path.is_file():
        return Thing(RECIPE, RECIPE) if path.suffix in (".yaml", ".yml") else Thing(OTHER, "a file")
    if not path.is_dir():
        outside = name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name or path.suffix in (".yaml", ".yml")
        return Thing(OTHER, "not there") if outside else Thing(HUB, "no folder here")
    if is_run(path):
        return Thing(RUN, described_run(path))
    if (path / CONVERTED_WEIGHTS).is_file():
        return Thing(EXPORT, EXPORT)
    if (path / ONNX).is_dir() and not (path / WEIGHTS).is_file():
        return Thing(OTHER, "an export for ONNX Runtime")
    if (path / CONFIG).is_file():
        around = next((each for each in list(path.resolve().parents)[:4] if is_run(each)), None)
        return Thing(MODEL, f"{MODEL} of the run {around}" if around else MODEL)
    if (path / IDENTITY).is_file() or ((path / TRAINER_STATE).is_file() and checkpoint_step(path.name) is not None):
        return Thing(OTHER, "a checkpoint of a training, which goes on with paretokd train RUN --resume")
    if (path / PROVENANCE).is_file():
        return Thing(OTHER, "a distilled corpus, for data.distilled_dir")
    if StartLayout(path).plan.is_file():
        return Thing(OTHER, "what paretokd shrink has made before its run")
    if RunLayout(path).recipe.is_file():
        return Thing(OTHER, f"a folder with a recipe that has not been trained there, {RunLayout(path).recipe}")
    if inside := next((each for depth in ("*", "*/*") for each in path.glob(f"{depth}/{CONFIG}")), None):
        return Thing(OTHER, f"a folder with models in it, such as {inside.parent}")
    return Thing(OTHER, "a folder in which there is no run and no model")


def described_run(folder: Path) -> str:
    """A run with its models in a few words."""
    try:
        members = find_members(folder)
    except ModelError:
        members = {}
    if not members:
        return f"{RUN} that is not finished and has no models yet; paretokd train {folder} --resume goes on"
    students = [str(member.depth) for member in members if not member.whole and member.peer in (None, 1)]
    whole = ", ".join(member.folder for member in members if member.whole)
    some = ", ".join(students[:6]) + (" …" if len(students) > 6 else "")
    models = f"students are {some}" if students else f"models are {whole}"
    return f"{RUN}; its {models}, such as {next(reversed(members.values()))}"


def expect(name: str, *kinds: str) -> Thing:
    """What a name stands for, if it is of one of the kinds that a command takes.

    Raises:
        RecipeError: it is not; says what it is and what is wanted.
    """
    thing = look(name)
    if thing.kind in kinds or (thing.kind == HUB and MODEL in kinds):
        return thing
    wanted = " or ".join(ALSO_ON_HUB.get(kind, kind) for kind in kinds)
    raise RecipeError(f"{name or repr(name)}: is {thing.says}; give {wanted}")
