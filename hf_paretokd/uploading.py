"""`push_to_hub` of the trainers."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hf_paretokd import checkpoints
from hf_paretokd.checkpointing import CheckpointedTrainer
from hf_paretokd.data.pairs import pairs_among
from hf_paretokd.delivery.card import render_card
from hf_paretokd.delivery.extract import short_facts
from hf_paretokd.delivery.hub import Upload, push, repository_of
from hf_paretokd.evaluation.outputs import System
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.slicing import extract_student, model_depth


class UploadingTrainer(CheckpointedTrainer):
    """A trainer that uploads its finished models as plain checkpoints, and nothing else."""

    method: ClassVar[str]  # the name of the method, as recipes have it

    def student_depths(self) -> Sequence[Depth]:
        """The depths that a finished run writes as students."""
        return ()

    def signature(self) -> str:
        """What has to be equal for two trainings to be the same."""
        raise NotImplementedError

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: repositories are made when there is something to put into them."""

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Does nothing: models go to the Hub when they are finished."""

    def push_to_hub(
        self,
        commit_message: str = "End of training",
        blocking: bool = True,
        token: str | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Uploads every student (or peer, or the model) to a repository of its own, such as `user/name-6-2`, with a card.

        Unlike the stock trainer's, nothing but plain checkpoints leaves the machine, `args.hub_private_repo` defaults to
        private, nothing is pushed during training, and the call always waits. `paretokd push` writes fuller cards.

        Args:
            commit_message: of every commit.
            blocking, kwargs: taken for compatibility, without effect.
            token: of the Hub; default: `args.hub_token`, or the one `hf auth login` or HF_TOKEN gave.

        Returns:
            The addresses of the commits, on the main process.

        Raises:
            UploadError: `args.hub_model_id` is no `user/name`, or the Hub refused.
        """
        self.accelerator.wait_for_everyone()
        if not self.is_world_process_zero():
            return []
        private = self.args.hub_private_repo is not False
        with tempfile.TemporaryDirectory() as temporary:
            uploads = list(self._uploads(self.args.hub_model_id or "", Path(temporary)))
            return push(uploads, private, token or self.args.hub_token, commit_message)

    def _uploads(self, to: str, folder: Path) -> Iterator[Upload]:
        named, depths = list(self.model.named_models()), self.student_depths()
        full = model_depth(named[0][1])
        if depths:
            models = {System("student", str(depth)): extract_student(named[0][1], depth) for depth in depths}
        else:
            peers = len(named) > 1
            models = {
                System("peer" if peers else "model", str(model_depth(model)), number if peers else None): model
                for number, (_, model) in enumerate(named, 1)
            }
        pairs, signature = pairs_among(self.train_pairs), self.signature()
        for system, model in models.items():
            place, depth = folder / system.name, model_depth(model)
            checkpoints.save_model(model, self.processing_class, place)
            facts = short_facts(model, depth, full if depths else depth, self.processing_class, self.method, pairs)
            repository = repository_of(to, system)
            yield Upload(place, repository, render_card(replace(facts, repository=repository, signature=signature)))
