"""`pipeline("translation")` after `import hf_paretokd` alone, although neither imports the other."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PIPELINES = "transformers.pipelines"


def bring_back_translation() -> None:
    """Registers the translation pipeline now if `transformers.pipelines` has been imported, else as soon as it is."""
    if PIPELINES in sys.modules:
        register()
    elif not any(isinstance(finder, AfterPipelines) for finder in sys.meta_path):
        sys.meta_path.insert(0, AfterPipelines())


def register() -> None:
    """Imports the pipeline, which registers itself at its end, or registers it again with a `transformers.pipelines` anew."""
    pipeline = import_module("hf_paretokd.inference.pipeline")
    again = getattr(pipeline, "register_translation_pipeline", None)  # missing while the module is being imported
    if again is not None:
        again()


class AfterPipelines(MetaPathFinder):
    """Takes part in every import of `transformers.pipelines` and registers the translation pipeline at its end."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that all other finders give, its loader followed by `register`."""
        if name != PIPELINES:
            return None
        others = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> Any:
                execute(module)
                register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
