"""Small, good translation models from one training run, for Hugging Face Transformers.

The public names are those of `__init__.pyi`. They are imported when they are first used, so that the package itself costs
nothing.
"""

import ast
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hf_paretokd.inference.hook import bring_back_translation

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
_HOMES = {name.name: str(node.module) for node in _STUB.body if isinstance(node, ast.ImportFrom) for name in node.names}
__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    """A public name, imported from its module, or the installed version (PEP 562)."""
    if name == "__version__":
        found: Any = version("hf_paretokd")
    elif name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'hf_paretokd' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """All public names, imported or not."""
    return sorted({*globals(), *__all__})


bring_back_translation()
