"""The rooms of the house: who imports whom, who prints, who knows the names of files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_paretokd import layout

PACKAGE = Path(layout.__file__).parent
ROOMS = "errors layout utils data losses models hub inference evaluation training methods runs serving bench cli"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imported(path: Path) -> Iterator[str]:
    """The modules of this package that a file imports, at its top or inside functions."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "hf_paretokd":
            yield from (f"hf_paretokd.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_paretokd."):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("hf_paretokd."))


PARTS = ("papers", "weighting", "taught", "students", "consistency", "top_entries")  # what methods are made of


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_downwards_only(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts
    for module in imported(path):
        assert ROOMS.split().index(room(module)) <= ROOMS.split().index(own[0]), f"{own} imports {module}"
        if own[0] == "methods" and own[1] not in ("registry", "weighting", "pareto_all_in_one"):  # which is two at once
            assert not module.startswith("hf_paretokd.methods.") or module.split(".")[2] in PARTS, (
                "a method imports no other method"
            )


def test_no_chain_of_imports_between_rooms_is_longer_than_the_house():
    """Cycles between modules would make a chain without end."""
    edges: dict[str, set[str]] = {}
    for path in MODULES:
        name = ".".join(("hf_paretokd", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        text = path.read_text("utf-8").replace("if TYPE_CHECKING:", "if False:")
        body = [node for node in ast.parse(text).body if not (isinstance(node, ast.If) and isinstance(node.test, ast.Constant))]
        edges[name] = {
            node.module
            for statement in body
            for node in ast.walk(statement)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_paretokd.")
        }
    seen: dict[str, int] = {}

    def depth(module: str, above: tuple[str, ...] = ()) -> int:
        assert module not in above, f"a cycle: {' → '.join((*above, module))}"
        if module not in seen:
            seen[module] = 1 + max((depth(other, (*above, module)) for other in edges.get(module, ())), default=0)
        return seen[module]

    for module in edges:
        depth(module)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints(path):
    if path.is_relative_to(PACKAGE / "cli"):
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name):
            assert node.id not in ("print", "Console"), f"{path}:{node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("rich"), f"{path}:{node.lineno}"


def constants(path: Path) -> Iterator[tuple[int, str]]:
    """Text in code, without docstrings."""
    found = tree(path)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(found)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(found):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def test_only_the_layout_knows_the_names_of_files():
    endings = (".json", ".yaml", ".html", ".safetensors", ".bin", ".md")
    known = {text for _, text in constants(PACKAGE / "layout.py") if text.endswith(endings) and text[0] not in "*."}
    known |= {"checkpoints", "translations", "plots", "unfinished"}
    assert {"results.json", "recipe.yaml", "model.safetensors", "README.md", "report.html"} <= known
    for path in MODULES:
        if path.name != "layout.py":
            for number, text in constants(path):
                assert text not in known, f"{path}:{number}: {text!r}"


def test_files_of_a_run_are_written_whole():
    """Writers that leave half a file after a crash stand only where a folder is written beside and then renamed."""
    beside = {
        "utils/files.py",
        "models/files.py",
        "models/trimming.py",
        "hub/students.py",
        "data/tokenizer.py",
        "data/demo_corpus.py",
    }
    for path in MODULES:
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and node.attr in ("write_text", "write_bytes", "savefig"):
                if node.attr == "savefig" and name == "evaluation/plots.py":
                    continue  # into memory
                assert name in beside, f"{path}:{node.lineno}"
