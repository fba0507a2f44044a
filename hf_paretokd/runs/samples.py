"""A few translations to look at."""

from typing import Any

from transformers import pipeline

from hf_paretokd.data.languages import known_tags
from hf_paretokd.models.member import Member
from hf_paretokd.runs.run import Run


def sample_translations(run: Run, member: Member, count: int = 2) -> list[tuple[str, str, str, str]]:
    """(pair, source, translation, reference) of a few test sentences of each pair, through `pipeline("translation")`."""
    model, tokenizer = run.load(member)
    make: Any = pipeline  # its types know the tasks of transformers only
    translator = make("translation", model=model, tokenizer=tokenizer)
    rows = []
    for position, (pair, text) in enumerate(run.text("test").items()):
        chosen = slice(position * count, (position + 1) * count)
        sources, targets = text.sources[chosen], text.targets[chosen]
        told = run.directions[pair]
        codes = {"src_lang": told.src_lang, "tgt_lang": told.tgt_lang} if told.tgt_lang else {}
        tag = told.before if known_tags(tokenizer) else ""  # other words are put there by the pipeline
        results = translator([tag + source for source in sources], **codes)
        for source, result, target in zip(sources, results, targets, strict=True):
            rows.append((str(pair), source, result["translation_text"], target))
    return rows
