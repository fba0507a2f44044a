"""Model cards of a finished run: every model's own figures, and those of its family."""

from collections.abc import Callable
from pathlib import Path

from transformers import AutoConfig

from hf_paretokd.data.tokenizer import target_tags
from hf_paretokd.delivery.card import TITLES, UNNAMED, CardFacts, CardTable, ModelScore, render_card
from hf_paretokd.evaluation.outputs import SOURCE, System, distinct
from hf_paretokd.evaluation.results import AVERAGE
from hf_paretokd.models.building import load_model
from hf_paretokd.record import RunRecord
from hf_paretokd.scoring import load_tokenizer, run_models
from hf_paretokd.sharing.tables import STARRED, models_table, paired_tests, training_cost

CARD = "README.md"
Names = Callable[[System], tuple[str, str | None]]  # a model's repository, and its folder there


def write_cards(record: RunRecord) -> None:
    """Gives every checkpoint of a run its card with measured figures."""
    for system, folder in run_models(record.folder):
        write_card(record, system, folder)


def write_card(record: RunRecord, system: System, folder: Path) -> None:
    """Gives a checkpoint, in a run or taken from it, the card of one of the run's models."""
    (folder / CARD).write_text(render_card(card_facts(record, system, folder)), "utf-8")


def unnamed(system: System) -> tuple[str, str | None]:
    """For cards of models that are nowhere but on this disk."""
    return UNNAMED, None


def card_facts(record: RunRecord, system: System, folder: Path, names: Names = unnamed) -> CardFacts:
    """What a card says of one model of a run.

    Args:
        record: the run.
        system: the model.
        folder: its checkpoint.
        names: where each model of the run can be loaded from.
    """
    recipe, tokenizer, config = record.recipe, load_tokenizer(folder), AutoConfig.from_pretrained(folder)
    teacher = record.systems[0] if record.systems and system.model == "student" else system
    longest = getattr(config, "max_position_embeddings", None)
    repository, subfolder = names(system)
    sources = record.translations(record.pairs[0]).get(SOURCE) if record.pairs else None
    size = record.table.get((system, AVERAGE, "parameters"))
    return CardFacts(
        depth=system.depth,
        teacher_depth=teacher.depth,
        method=recipe.method,
        parameters=int(size.value) if size else load_model(folder).num_parameters(),
        pairs=recipe.data.parsed_pairs,
        tags=target_tags(tokenizer),
        model_type=config.model_type,
        longest=longest,
        repository=repository,
        subfolder=subfolder,
        license=recipe.card.license,
        base_model=base_model(record, system, names),
        datasets=data_sets(record),
        scores=scores(record, system),
        test_name=recipe.card.test_name or f"{record.split} text",
        decoding=next((row.decoding for row in record.rows if row.system == system and row.decoding), ""),
        notes=notes(record, system),
        tests=tests(record, system),
        family=family(record, system),
        protocol=str(record.costs[0]) if record.costs else "",
        signature=record.signature,
        training=training(record),
        limitations=limitations(record, longest),
        example=recipe.card.example or (min(sources[:50], key=lambda text: abs(len(text) - 40)) if sources else "…"),
    )


def data_sets(record: RunRecord) -> list[str]:
    """Hub ids of the training text."""
    card, hub = record.recipe.card, record.recipe.data.hub
    return card.datasets or ([hub] if isinstance(hub, str) else list(dict.fromkeys((hub or {}).values())))


def base_model(record: RunRecord, system: System, names: Names) -> str | None:
    """The teacher of a student, where it can be named, and what a training started from."""
    started = record.recipe.model.from_pretrained
    if system.model == "student" and record.systems and system.depth != record.systems[0].depth:
        repository, _ = names(System("student", record.systems[0].depth))  # which is the teacher
        if repository not in (UNNAMED, names(system)[0]):
            return repository
    return started if started and not Path(started).exists() else None


def scores(record: RunRecord, system: System) -> list[ModelScore]:
    """BLEU, chrF and COMET of every pair."""
    return [
        ModelScore(row.pair, row.metric, row.value, row.signature, row.low, row.high)
        for row in record.table.values()
        if row.system == system and row.metric in TITLES and row.signature
    ]


def notes(record: RunRecord, system: System) -> list[str]:
    """Averages and contamination, in sentences."""
    found = []
    averages = [f"{group} {row.value:.1f}" for group in record.groups if (row := record.table.get((system, group, "bleu")))]
    if averages:
        found.append(f"Mean BLEU over pairs: {', '.join(averages)}.")
    if record.contamination:
        own = [each for each in record.contamination if each.split == record.split]
        held, total = sum(each.normalised_both for each in own), sum(each.sentences for each in own)
        found.append(
            f"Of {total:,} test sentences {held:,} occur in the training text with both sides (case and spaces aside)."
        )
    return found


def tests(record: RunRecord, system: System) -> CardTable | None:
    """The model beside others, if it was compared with any."""
    rows = paired_tests(record, system)
    starred = STARRED if len(record.pairs) > 1 else ""
    return CardTable([f"against{starred}", *record.pairs], rows) if rows else None


def family(record: RunRecord, system: System) -> CardTable | None:
    """The table of all models, with this one in bold."""
    costs = record.costs
    if costs is None or not set(distinct(record.systems)) <= set(costs[1]):
        return None  # not all of them were measured
    table = models_table(record, costs[1])
    own = "student" if system.model == "teacher" else system.model  # a teacher is its deepest student
    title = System(own, system.depth, system.peer).title
    rows = [[f"**{cell}**" for cell in row.cells] if row.cells[0] == title else list(row.cells) for row in table.rows]
    return CardTable(table.headings, rows)


def training(record: RunRecord) -> list[tuple[str, str]]:
    """The cost and the machine."""
    seconds = record.training.get("training_seconds")
    machine = [("machine and versions", seconds.signature)] if seconds and seconds.signature else []
    return [*training_cost(record), *machine]


def limitations(record: RunRecord, longest: int | None) -> list[str]:
    """What the recipe says, and what is true of every model here."""
    found = list(record.recipe.card.limitations)
    if record.pairs:
        found.append(f"The scores are for the {record.split} text; text of another kind will be translated worse.")
    found.append("It translates sentence by sentence and knows nothing of their context.")
    if longest:
        found.append(f"Text of more than {longest} tokens is cut.")
    return found
