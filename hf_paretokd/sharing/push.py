"""`paretokd push`: a run's models on the Hub, each with its own card."""

from collections.abc import Sequence
from pathlib import Path

from hf_paretokd.delivery.card import render_card
from hf_paretokd.delivery.hub import Upload, check_names, push, repository_of
from hf_paretokd.errors import RecipeError
from hf_paretokd.evaluation.outputs import System, distinct
from hf_paretokd.models.depth import Depth
from hf_paretokd.record import read_run
from hf_paretokd.scoring import run_models
from hf_paretokd.sharing.cards import Names, card_facts

LAYOUTS = ("repositories", "subfolders")


def names_in(to: str, layout: str) -> Names:
    """Where each model goes: `user/name-6-2`, or folder `6-2` of `user/name`."""
    if layout not in LAYOUTS:
        raise RecipeError(f"--layout: {layout!r} is not one of {', '.join(LAYOUTS)}")

    def name(system: System) -> tuple[str, str | None]:
        if layout == "subfolders":
            return to, system.suffix or None
        return repository_of(to, system), None

    return name


def planned_uploads(
    run: str | Path, to: str, layout: str = "repositories", depths: Sequence[str] | None = None
) -> list[Upload]:
    """What `push_run` would upload.

    Args:
        run: folder of a finished run.
        to: `user/name`; with one repository a model its depth or peer is added, as in `user/name-6-2`.
        layout: `repositories`, or `subfolders` of one repository, whose card at the top is the first model's.
        depths: students to take; default: all models.

    Raises:
        TrainingError, RecipeError, ModelError, UploadError: no finished run, a depth it does not have, no such name.
    """
    check_names([to])
    record, names = read_run(run), names_in(to, layout)
    folders = dict(run_models(record.folder))
    systems = distinct(folders)
    if depths:
        wanted = [str(Depth.parse(depth)) for depth in depths]
        absent = [depth for depth in wanted if depth not in {system.depth for system in systems}]
        if absent:
            raise RecipeError(f"--depths: {record.folder} has no model {absent[0]}")
        systems = [system for system in systems if system.depth in wanted]
    uploads = []
    for system in systems:
        repository, place = names(system)
        card = render_card(card_facts(record, system, folders[system], names))
        uploads.append(Upload(folders[system], repository, card, place or ""))
    if layout == "subfolders" and uploads[0].path_in_repo:
        uploads.append(Upload(None, to, uploads[0].card))
    return uploads


def push_run(
    run: str | Path,
    to: str,
    layout: str = "repositories",
    depths: Sequence[str] | None = None,
    private: bool = True,
    token: str | None = None,
) -> list[str]:
    """Uploads a run's models; arguments as `planned_uploads` and `push`.

    Returns:
        The addresses of the commits.
    """
    return push(planned_uploads(run, to, layout, depths), private, token)


def show_push(run: str, to: str, depths: Sequence[str] | None, layout: str, public: bool, dry_run: bool) -> None:
    """Uploads and prints the addresses, or prints what would be uploaded and the cards."""
    uploads = planned_uploads(run, to, layout, depths)
    if not dry_run:
        for address in push(uploads, not public):
            print(address)
        return
    for upload in uploads:
        names = ", ".join(operation.path_in_repo for operation in upload.operations())
        print(f"==== {upload.name}: {names}\n\n{upload.card}\n")
    print(f"{len(uploads)} uploads, {'public' if public else 'private'} where the repository is new; nothing was sent")
