"""`paretokd push`: a run's models on the Hub, each with its own card."""

from collections.abc import Sequence
from pathlib import Path

from hf_paretokd.errors import ModelError, RecipeError
from hf_paretokd.hub.card import check_card_languages, render_card
from hf_paretokd.hub.upload import Upload, check_names, push, repository_of
from hf_paretokd.layout import CONFIG, MEMBERS, WEIGHTS
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.files import check_weights
from hf_paretokd.models.member import Member, distinct
from hf_paretokd.runs.cards import Names, card_facts
from hf_paretokd.runs.run import Run
from hf_paretokd.utils.choices import LAYOUTS


def names_in(to: str, layout: str) -> Names:
    """Where each model goes: `user/name-6-2`, or folder `6-2` of `user/name`."""
    if layout not in LAYOUTS:
        raise RecipeError(f"--layout: {layout!r} is not one of {', '.join(LAYOUTS)}")

    def name(member: Member) -> tuple[str, str | None]:
        if layout == "subfolders":
            return to, member.suffix or None
        return repository_of(to, member), None

    return name


def planned_uploads(
    run: str | Path | Run, to: str, layout: str = "repositories", depths: Sequence[str] | None = None
) -> list[Upload]:
    """What `push_run` would upload.

    Args:
        run: a finished run, or its folder.
        to: `user/name`; with one repository a model its depth or peer is added, as in `user/name-6-2`.
        layout: `repositories`, or `subfolders` of one repository, whose card at the top is the first model's.
        depths: students to take; default: all models.

    Raises:
        TrainingError, RecipeError, ModelError, UploadError: no finished run, a depth it does not have, no such name.
    """
    check_names([to])
    opened = (run if isinstance(run, Run) else Run(run)).finished()
    check_card_languages(opened.recipe.data.parsed_pairs, opened.recipe.card.languages)
    names = names_in(to, layout)
    members = distinct(opened.members)
    if depths:
        wanted = [Depth.parse(depth) for depth in depths]
        for depth in wanted:
            if depth not in {member.depth for member in members}:
                raise RecipeError(f"--depths: {opened.folder} has no model {depth}")
        members = [member for member in members if member.depth in wanted]
    check_whole(opened.folder, [opened.members[member] for member in members])
    uploads = []
    for member in members:
        repository, place = names(member)
        card = render_card(card_facts(opened, member, names))
        uploads.append(Upload(opened.members[member], repository, card, place or ""))
    check_names([upload.repository for upload in uploads])
    if layout == "subfolders" and uploads[0].path_in_repo:
        uploads.append(Upload(None, to, uploads[0].card))
    return uploads


def check_whole(run: Path, chosen: Sequence[Path]) -> None:
    """Raises a ModelError if weights are missing from the run, or those of a chosen model are cut off."""
    for config in (path / CONFIG for pattern in MEMBERS for path in run.glob(pattern)):
        if config.is_file() and not config.with_name(WEIGHTS).is_file():
            raise ModelError(
                f"{config.with_name(WEIGHTS)}: is missing; write the model anew (paretokd extract, or the training)"
            )
    for folder in chosen:
        check_weights(folder)


def push_run(
    run: str | Path | Run,
    to: str,
    layout: str = "repositories",
    depths: Sequence[str] | None = None,
    private: bool = True,
    token: str | None = None,
    again: str = "the same command",
) -> list[str]:
    """Uploads a run's models; arguments as `planned_uploads` and `push`.

    Returns:
        The addresses of the commits.
    """
    return push(planned_uploads(run, to, layout, depths), private, token, again=again)
