"""`pipeline("translation")` after `import hf_paretokd` alone, although neither imports the other."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
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
    """Imports the pipeline and registers it."""
    from hf_paretokd.inference.pipeline import register_translation_pipeline

    register_translation_pipeline()


class AfterPipelines(MetaPathFinder):
    """Takes part in the import of `transformers.pipelines`, once, and registers the translation pipeline at its end."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that all other finders give, its loader followed by `register`."""
        if name != PIPELINES:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> Any:
                execute(module)
                register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
