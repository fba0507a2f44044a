"""Models of a trainer on disk and on the Hub: `save_students` and `push_to_hub`."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import datasets
from transformers import PreTrainedModel

from hf_paretokd.data.pairs import LanguagePair, pairs_among
from hf_paretokd.errors import TokenizerError
from hf_paretokd.hub.card import MethodFacts, render_card
from hf_paretokd.hub.students import short_facts, write_students
from hf_paretokd.hub.upload import Upload, push, repository_of
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.files import save_model
from hf_paretokd.models.joint import JointModel
from hf_paretokd.models.member import Member
from hf_paretokd.models.slicing import extract_student, model_depth
from hf_paretokd.training.checkpointing import CheckpointedTrainer


class PushingTrainer(CheckpointedTrainer):
    """A trainer that uploads its finished models as plain checkpoints, and nothing else."""

    method: ClassVar[str]  # the name of the method, as recipes have it
    facts: ClassVar[MethodFacts]
    train_pairs: dict[str, datasets.Dataset]

    def student_depths(self) -> Sequence[Depth]:
        """The depths that a finished run writes as students of every model."""
        return ()

    def signature(self) -> str:
        """What has to be equal for two trainings to be the same."""
        raise NotImplementedError

    @property
    def language_pairs(self) -> list[LanguagePair]:
        """The language pairs that are trained."""
        return pairs_among(self.train_pairs)

    def save_students(
        self,
        depths: Iterable[str | Depth],
        folder: str | Path,
        overwrite: bool = False,
        pairs: Sequence[LanguagePair] | None = None,
    ) -> list[Path]:
        """Writes students of the models as they are now, each a plain checkpoint with a short card, from the main process.

        In the trainer's own run folder files of others stay beside them.

        Args:
            depths: such as `["6-2", "2-2"]`.
            folder: gets `E-D` for every depth; with several peers `peers/1/students/E-D` and so on.
            overwrite: replace students that are there.
            pairs: language pairs for the cards; default: those that are trained.

        Returns:
            The folders.

        Raises:
            ModelError: a depth does not fit, or a folder is in the way.
            TokenizerError: the trainer has no tokenizer (`processing_class`).
        """
        if self.processing_class is None:
            raise TokenizerError("save_students: the trainer has no tokenizer to save; give it one as processing_class")
        written: list[Path] = []
        wanted, pairs = [depths] if isinstance(depths, str) else list(depths), self.language_pairs if pairs is None else pairs
        with self.whole_models() as joint:
            for member, model in joint.members() if self.is_world_process_zero() else ():
                place = Path(folder)
                if member.peer:
                    place /= Path(member.student().folder).parent
                in_run = place.resolve().is_relative_to(Path(str(self.args.output_dir)).resolve())
                written += write_students(model, self.processing_class, wanted, place, self.facts, pairs, overwrite, in_run)
        return written

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: repositories are made when there is something to put into them."""

    def push_to_hub(  # type: ignore[override]  # several repositories, several commits
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
        private = self.args.hub_private_repo is not False
        with tempfile.TemporaryDirectory() as temporary, self.whole_models() as joint:
            if not self.is_world_process_zero():
                return []
            uploads = list(self._uploads(self.uploaded(joint), self.args.hub_model_id or "", Path(temporary)))
            return push(uploads, private, token or self.args.hub_token, commit_message, again="trainer.push_to_hub()")

    def uploaded(self, joint: JointModel) -> dict[Member, PreTrainedModel]:
        """The models that are uploaded and what each is or is a slice of: all students, or the models if there are none."""
        whole = dict(joint.members())
        students = {each.student(depth): model for each, model in whole.items() for depth in self.student_depths()}
        return students or whole

    def repositories(self, to: str) -> dict[Member, str]:
        """Where each model goes."""
        return {member: repository_of(to, member) for member in self.uploaded(self.model)}

    def _uploads(self, models: Mapping[Member, PreTrainedModel], to: str, folder: Path) -> Iterator[Upload]:
        pairs, signature, tokenizer = self.language_pairs, self.signature(), self.processing_class
        for member, model in models.items():
            each = model if member.whole else extract_student(model, member.depth)
            place, repository = folder / member.stem, repository_of(to, member)
            save_model(each, tokenizer, place)
            facts = short_facts(each, member.depth, model_depth(model), tokenizer, self.facts, pairs)
            yield Upload(place, repository, render_card(replace(facts, repository=repository, signature=signature)))
