"""`pipeline("translation")` on transformers 5, where the task was removed."""

import sys
from typing import Any

from transformers import AutoModelForSeq2SeqLM, Pipeline

from hf_paretokd.data.languages import Direction, asked, encode, generation_arguments, known_tags
from hf_paretokd.inference.targets import Targets
from hf_paretokd.models.files import usable_length


class TranslationPipeline(Pipeline):
    """Translates text with a sequence-to-sequence model.

    ```python
    translator = pipeline("translation", "runs/demo/students/2-2")
    translator("dans 3 heures")  # [{"translation_text": "in 3 hours"}]
    ```

    Text or a list of texts gives a list of `{"translation_text": …}`. Keyword arguments of `generate` (`num_beams`,
    `max_length` …) are passed on. `src_lang` and `tgt_lang` name the languages, such as `fr`, `fr_XX` or `fra_Latn`, where the
    model has to be told (M2M100, NLLB, mBART; T5 with several pairs); default: what it was left with. For models with target
    tags `tgt_lang="de"` puts `>>de<<` before each text that has no tag of its own; without either, a model with several raises
    a `TokenizerError` (`tgt_lang="none"` leaves the text as it is). Text longer than the model takes is cut.
    """

    tokenizer: Any
    model: Any
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = True
    _pipeline_calls_generate = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.targets: dict[str | None, Targets] = {}  # by language asked for
        self.directions: dict[tuple[str | None, str | None], Direction] = {}  # by languages asked for

    def _sanitize_parameters(
        self,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        return_tensors: bool | None = None,
        **generate_kwargs: Any,
    ) -> tuple[dict, dict, dict]:
        languages = {name: value for name, value in (("src_lang", src_lang), ("tgt_lang", tgt_lang)) if value}
        wanted = {"clean_up_tokenization_spaces": clean_up_tokenization_spaces, "return_tensors": return_tensors}
        return languages, {**languages, **generate_kwargs}, {name: value for name, value in wanted.items() if value}

    # as in transformers' own pipelines, the steps name their parameters
    def preprocess(self, text: str, src_lang: str | None = None, tgt_lang: str | None = None) -> Any:  # type: ignore[override]
        """Token ids of one text."""
        if not isinstance(text, str):
            raise TypeError(f"the translation pipeline takes text or a list of texts, not {type(text).__name__}")
        config, tokenizer = self.model.config, self.tokenizer
        options: dict[str, Any] = {
            "return_tensors": "pt",
            "truncation": True,
            "max_length": usable_length(config, tokenizer),
        }
        if hasattr(tokenizer, "supported_language_codes"):  # Marian; one without tags is asked for its only language or none
            if tgt_lang not in self.targets:
                self.targets[tgt_lang] = Targets.of(tokenizer, tgt_lang if known_tags(tokenizer) else None)
            return tokenizer(self.targets[tgt_lang].tagged(text), **options)
        return encode(tokenizer, self.direction(src_lang, tgt_lang), [text], return_attention_mask=True, **options)

    def direction(self, src_lang: str | None, tgt_lang: str | None) -> Direction:
        """What the model is told of languages, found out once for those that are named or that the tokenizer has now."""
        asked_for = (
            src_lang or getattr(self.tokenizer, "src_lang", None),
            tgt_lang or getattr(self.tokenizer, "tgt_lang", None),
        )
        if asked_for not in self.directions:
            self.directions[asked_for] = asked(self.tokenizer, self.model.config.to_dict(), *asked_for)
        return self.directions[asked_for]

    def _forward(  # type: ignore[override]
        self, model_inputs: Any, src_lang: str | None = None, tgt_lang: str | None = None, **generate_kwargs: Any
    ) -> Any:
        if not hasattr(self.tokenizer, "supported_language_codes"):
            told = generation_arguments(self.tokenizer, self.direction(src_lang, tgt_lang))
            generate_kwargs = {**told, **generate_kwargs}
        if hasattr(self, "generation_config"):
            generate_kwargs.setdefault("generation_config", self.generation_config)
        return {"output_ids": self.model.generate(**model_inputs, **generate_kwargs)}

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], clean_up_tokenization_spaces: bool = False, return_tensors: bool = False
    ) -> list[dict[str, Any]]:
        """The texts of one input (several with `num_return_sequences`), or its ids."""
        if return_tensors:
            return [{"translation_token_ids": ids} for ids in model_outputs["output_ids"]]
        return [
            {
                "translation_text": self.tokenizer.decode(
                    ids, skip_special_tokens=True, clean_up_tokenization_spaces=clean_up_tokenization_spaces
                )
            }
            for ids in model_outputs["output_ids"]
        ]

    def __call__(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """Translates a text or a list of texts; see the class."""
        results = super().__call__(*args, **kwargs)
        if args and isinstance(args[0], list) and results and all(isinstance(r, list) and len(r) == 1 for r in results):
            return [result[0] for result in results]
        return results


def register_translation_pipeline() -> None:
    """Makes `pipeline("translation")` work where transformers has dropped it; does nothing where it still exists."""
    pipelines = sys.modules["transformers.pipelines"]  # which may have been imported anew
    registry = pipelines.PIPELINE_REGISTRY
    if "translation" in registry.get_supported_tasks():
        return
    registry.register_pipeline("translation", TranslationPipeline, pt_model=AutoModelForSeq2SeqLM, type="text")
    getattr(pipelines, "REMOVED_TASKS", {}).pop("translation", None)


register_translation_pipeline()
