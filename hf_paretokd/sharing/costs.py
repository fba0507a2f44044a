"""Latency and size of a run's models, and the choice among them."""

import tempfile
from pathlib import Path

import torch
from rich import box
from rich.table import Table

from hf_paretokd import checkpoints
from hf_paretokd.data.pairs import LanguagePair, source_tags
from hf_paretokd.delivery.choice import Budget, Candidate, Choice, choose
from hf_paretokd.errors import RecipeError, TrainingError
from hf_paretokd.evaluation import ctranslate
from hf_paretokd.evaluation.latency import (
    TURNS,
    Cost,
    Protocol,
    machine_name,
    measure_latencies,
    read_costs,
    spaced_by_length,
    write_costs,
)
from hf_paretokd.evaluation.outputs import SOURCE, System, distinct
from hf_paretokd.evaluation.translation import ENGINES, decoder_of, position_limit
from hf_paretokd.models.building import load_model
from hf_paretokd.record import LATENCY, RunRecord, read_run
from hf_paretokd.scoring import console, load_tokenizer, run_models


def measure_run(
    record: RunRecord, engine: str = "transformers", quantization: str = "float32"
) -> tuple[Protocol, dict[System, Cost]]:
    """Latency and size of the run's models on this machine; kept in `latency.json` and measured once for a protocol.

    Args:
        record: a finished run.
        engine: `transformers` (float32) or `ctranslate2`.
        quantization: of CTranslate2.

    Raises:
        RecipeError: there is no such engine, or it has no quantization.
        ModelError: CTranslate2 is missing.
        TrainingError: nothing was scored.
    """
    if engine not in ENGINES:
        raise RecipeError(f"--engine: {engine!r} is not one of {', '.join(ENGINES)}")
    if engine == "transformers" and quantization != "float32":
        raise RecipeError(f"--quantization {quantization}: needs --engine ctranslate2")
    sources = sample_sources(record)
    models = {system: folder for system, folder in run_models(record.folder) if system in record.systems}
    models = {system: models[system] for system in distinct(models)}
    tokenizer = load_tokenizer(next(iter(models.values())))
    ids = spaced_by_length(tokenizer(sources, truncation=True, return_attention_mask=False)["input_ids"])
    beams = record.recipe.evaluation.num_beams
    protocol = Protocol(engine, quantization, beams, len(ids), TURNS, torch.get_num_threads(), machine_name())
    path = record.folder / (LATENCY if engine == "transformers" else f"latency-{engine}-{quantization}.json")
    known = read_costs(path)
    if known and known[0] == protocol and set(models) <= set(known[1]):
        return known
    decoders, sizes, limit = {}, {}, 0
    with tempfile.TemporaryDirectory() as temporary:
        for system, folder in models.items():
            model = load_model(folder).eval()
            limit = position_limit(model)
            if engine == "transformers":
                decoders[system] = decoder_of(model, tokenizer, engine)
                sizes[system] = folder / checkpoints.WEIGHTS
            else:
                converted = Path(temporary) / system.name
                ctranslate.convert(folder, converted, quantization)
                decoders[system] = ctranslate.ctranslate_decoder(converted, tokenizer, one_by_one=True)
                sizes[system] = converted / ctranslate.WEIGHTS
        megabytes = {system: file.stat().st_size / 1e6 for system, file in sizes.items()}
    times = measure_latencies(decoders, ids, limit, beams)
    costs = {system: Cost(round(times[system], 3), round(megabytes[system], 3)) for system in models}
    write_costs(protocol, costs, path)
    return protocol, costs


def sample_sources(record: RunRecord) -> list[str]:
    """The source text of the quoted split with its tags, all pairs, as the run has kept it.

    Raises:
        TrainingError: the run has none.
    """
    data = record.recipe.data
    tags = source_tags(data.parsed_pairs, data.target_tags)
    found = [
        tags[LanguagePair.parse(pair)] + source for pair in record.pairs for source in record.translations(pair).get(SOURCE, ())
    ]
    if not found:
        raise TrainingError(f"{record.folder}: holds no scored text; score its models first: paretokd evaluate {record.folder}")
    return found


def candidates(
    record: RunRecord, pair: str | None = None, engine: str = "transformers", quantization: str = "float32"
) -> tuple[Protocol, list[Candidate]]:
    """The run's models with measured latency and size, and BLEU on a pair or on average.

    Raises:
        RecipeError: the run knows no such pair.
    """
    if pair and pair not in record.pairs:
        raise RecipeError(f"--pair: {pair!r} was not scored; known are {', '.join(record.pairs)}")
    protocol, costs = measure_run(record, engine, quantization)
    return protocol, [
        Candidate(system, cost.milliseconds, cost.megabytes, quality)
        for system, cost in costs.items()
        if (quality := record.quality(system, pair)) is not None
    ]


def choose_student(
    run: str | Path,
    max_ms: float | None = None,
    max_mb: float | None = None,
    min_bleu: float | None = None,
    pair: str | None = None,
    prefer: str | None = None,
    engine: str = "transformers",
    quantization: str = "float32",
) -> Choice:
    """The best or smallest model of a finished run under budgets; nothing is trained.

    Args:
        run: the run's folder.
        max_ms: milliseconds a sentence, as `Protocol` describes.
        max_mb: megabytes of weights on disk.
        min_bleu: BLEU of the float32 model in the run's results.
        pair: the language pair whose BLEU counts; default: the average over pairs.
        prefer: `best`, `smallest` or `fastest`, see `choose`.
        engine, quantization: what runs the model, see `measure_run`.

    Raises:
        TrainingError, RecipeError, ModelError: no finished run, an unknown pair or engine, a limit that is not positive.
    """
    _, found = candidates(read_run(run), pair, engine, quantization)
    return choose(found, Budget(max_ms, max_mb, min_bleu), prefer)


def show_choice(
    run: str,
    max_ms: float | None,
    max_mb: float | None,
    min_bleu: float | None,
    pair: str | None,
    prefer: str | None,
    engine: str,
    quantization: str,
) -> bool:
    """Prints all models with what they cost, and which one fits; arguments as `choose_student`.

    Returns:
        Whether one fits.
    """
    record, budget = read_run(run), Budget(max_ms, max_mb, min_bleu)
    protocol, found = candidates(record, pair, engine, quantization)
    choice = choose(found, budget, prefer)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model")
    for heading in ("ms", "MB", "BLEU"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for each in found:
        misses = ", ".join(budget.misses(each))
        mark = "← chosen" if each is choice.chosen else misses and f"[dim]{misses}[/dim]"
        table.add_row(each.system.title, f"{each.milliseconds:.1f}", f"{each.megabytes:.1f}", f"{each.bleu:.1f}", mark)
    console.print(table)
    console.print(f"{protocol}; BLEU of the {record.split} text, float32", highlight=False)
    if choice.chosen:
        console.print(
            f"{choice.chosen.system.title}: {record.folder / choice.chosen.system.folder}", highlight=False, soft_wrap=True
        )
        return True
    nearest, lacking = choice.nearest, " and ".join(choice.misses)
    console.print(f"nothing fits; {nearest.system.title} comes nearest, with {lacking}", highlight=False, soft_wrap=True)
    return False
