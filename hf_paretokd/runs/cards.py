"""Model cards of a finished run: every model's own figures, and those of its family."""

from collections.abc import Callable
from pathlib import Path

from hf_paretokd.data.languages import known_tags, told_on_card
from hf_paretokd.evaluation.results import AVERAGE
from hf_paretokd.hub.card import UNNAMED, CardFacts, CardTable, ModelScore, render_card
from hf_paretokd.layout import CARD, SOURCE
from hf_paretokd.models.files import usable_length
from hf_paretokd.models.member import Member, distinct
from hf_paretokd.runs.run import Run
from hf_paretokd.runs.shrunk import Shrunk
from hf_paretokd.runs.tables import STARRED, models_table, paired_tests, training_cost
from hf_paretokd.utils.files import write_whole

Names = Callable[[Member], tuple[str, str | None]]  # a model's repository, and its folder there


def write_cards(run: Run) -> None:
    """Gives every checkpoint of a run its card with measured figures."""
    for member, folder in run.members.items():
        write_card(run, member, folder)


def write_card(run: Run, member: Member, folder: Path) -> None:
    """Gives a checkpoint, in a run or taken from it, the card of one of the run's models."""
    write_whole(folder / CARD, render_card(card_facts(run, member)))


def unnamed(member: Member) -> tuple[str, str | None]:
    """For cards of models that are nowhere but on this disk."""
    return UNNAMED, None


def card_facts(run: Run, member: Member, names: Names = unnamed) -> CardFacts:
    """What a card says of one model of a run.

    Args:
        run: the run.
        member: the model.
        names: where each model of the run can be loaded from.
    """
    recipe, config = run.recipe, run.config(member)
    teacher = run.origin(member) if run.scored else member
    repository, subfolder = names(member)
    sources = run.translations(run.pairs[0], SOURCE).get(SOURCE) if run.pairs else None
    size = run.table.get((member, AVERAGE, "parameters"))
    longest, told = usable_length(config, run.tokenizer), next(iter(run.directions.values()))
    return CardFacts(
        depth=str(member.depth),
        teacher_depth=str(teacher.depth),
        method=recipe.trainer_class.facts,
        parameters=int(size.value) if size else run.model(member).num_parameters(),
        pairs=recipe.data.parsed_pairs,
        languages=recipe.card.languages,
        tags=known_tags(run.tokenizer),
        told=told,
        language=told_on_card(run.tokenizer, told),
        model_type=config.model_type,
        longest=longest,
        repository=repository,
        subfolder=subfolder,
        license=recipe.card.license,
        base_model=base_model(run, member, names),
        datasets=data_sets(run),
        scores=scores(run, member),
        test_name=recipe.card.test_name or f"{run.split} text",
        decoding=next((row.decoding for row in run.rows if row.member == member and row.decoding), ""),
        notes=notes(run, member),
        tests=tests(run, member),
        family=family(run, member),
        protocol="; ".join(str(each[0]) for each in (run.costs, run.int8_costs) if each),
        signature=run.signature,
        training=training(run),
        limitations=limitations(run, longest),
        example=recipe.card.example or (min(sources[:50], key=lambda text: abs(len(text) - 40)) if sources else "…"),
    )


def data_sets(run: Run) -> list[str]:
    """Hub ids of the training text."""
    card, hub = run.recipe.card, run.recipe.data.hub
    return card.datasets or ([hub] if isinstance(hub, str) else list(dict.fromkeys((hub or {}).values())))


def base_model(run: Run, member: Member, names: Names) -> str | None:
    """The teacher of a student, where it can be named, and what a training started from."""
    started = run.shrunk.model if run.shrunk else run.recipe.model.from_pretrained
    teacher = run.origin(member)
    if run.shrunk and not Path(run.shrunk.model).exists():
        return started
    if not member.whole and run.scored and member.depth != teacher.depth:
        repository, _ = names(teacher.student())  # which is the teacher
        if repository not in (UNNAMED, names(member)[0]):
            return repository
    return started if started and not Path(started).exists() else None


def scores(run: Run, member: Member) -> list[ModelScore]:
    """BLEU, chrF and COMET of every pair."""
    return [
        ModelScore(row.pair, row.metric, row.value, row.signature, row.low, row.high)
        for row in run.table.values()
        if row.member == member and row.signature
    ]


def notes(run: Run, member: Member) -> list[str]:
    """Who made the training text, averages and contamination, in sentences."""
    found = []
    if run.shrunk:
        found.append(trimmed(run.shrunk))
        if run.shrunk.own_references:
            found.append(own_references(run.shrunk))
    if made := run.distilled:
        how = "joined by" if run.recipe.data.distilled == "add" else "replaced by"
        found.append(f"The training text was {how} {made.of} that `{shown_name(made.model)}` had translated ({made.decoding}).")
    averages = [f"{group} {row.value:.1f}" for group in run.groups if (row := run.table.get((member, group, "bleu")))]
    if averages:
        found.append(f"Mean BLEU over pairs: {', '.join(averages)}.")
    if run.contamination:
        own = [each for each in run.contamination if each.split == run.split]
        held, total = sum(each.normalised_both for each in own), sum(each.sentences for each in own)
        found.append(
            f"Of {total:,} test sentences {held:,} occur in the training text with both sides (case and spaces aside)."
        )
    return found


def trimmed(shrunk: Shrunk) -> str:
    """What became of the vocabulary of the model that exists, and what its students learnt from."""
    made, proof, (before, after) = shrunk.distilled, shrunk.proof, shrunk.entries
    lines = sum(made.lines.values())
    parallel = f" and {shrunk.parallel:,} pairs of parallel text" if shrunk.parallel else ""
    return (
        f"Made from `{shown_name(shrunk.model)}`: its vocabulary of {before:,} entries was trimmed to {after:,}, which "
        f"{lines:,} sentences of {made.of}, their translations by the original ({made.decoding}){parallel} use; that is the "
        f"training text as well. Before any training the trimmed model translated {proof.equal:,} of {proof.sentences:,} "
        "sentences as the original does; the others use pieces that went."
    )


def own_references(shrunk: Shrunk) -> str:
    """What scores are worth where there was no parallel text to test on."""
    pairs = ", ".join(shrunk.own_references)
    return (
        f"The references of {pairs} are the original's own translations: the scores say how much of it is kept, not how good "
        "it is."
    )


def shown_name(model: str) -> str:
    """A model's name on a card: its Hub id, or that of its folder."""
    return Path(model).name if Path(model).exists() else model


def tests(run: Run, member: Member) -> CardTable | None:
    """The model beside others, if it was compared with any."""
    rows = paired_tests(run, member)
    starred = STARRED if len(run.pairs) > 1 else ""
    return CardTable([f"against{starred}", *run.pairs], rows) if rows else None


def family(run: Run, member: Member) -> CardTable | None:
    """The table of all models, with this one in bold."""
    costs = run.costs
    if costs is None or not run.scored or not set(distinct(run.scored)) <= set(costs[1]):
        return None  # not all of them were measured
    table = models_table(run, costs[1])
    titles = (run.called(member), run.called(member.student()))  # a teacher stands there as its deepest student
    rows = [[f"**{cell}**" for cell in row.cells] if row.cells[0] in titles else list(row.cells) for row in table.rows]
    return CardTable(table.headings, rows)


def training(run: Run) -> list[tuple[str, str]]:
    """The cost and the machine."""
    seconds = run.training.get("training_seconds")
    machine = [("machine and versions", seconds.signature)] if seconds and seconds.signature else []
    return [*training_cost(run), *machine]


def limitations(run: Run, longest: int | None) -> list[str]:
    """What the recipe says, and what is true of every model here."""
    found = list(run.recipe.card.limitations)
    if run.pairs:
        found.append(f"The scores are for the {run.split} text; text of another kind will be translated worse.")
    found.append("It translates sentence by sentence and knows nothing of their context.")
    if longest:
        found.append(f"Text of more than {longest} tokens is cut.")
    return found
