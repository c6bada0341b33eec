"""Pushing to a repository, and its card, as methods of a model."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from ...calls.signature import defaults_of, params_first, shows
from ...core.fields import as_tags
from ...core.model import Mixin
from ..options import CardFileKeywords, PushKeywords
from .model_card import CardInfo, create_model_card
from .push import PUSH_DEFAULTS, push

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


class Publishes(Mixin):
    """Adds what makes a model a commit of a repository."""

    @params_first
    @shows(PUSH_DEFAULTS)
    def push_to_hub(
        self, params: Mapping[str, object], repo_id: str, **options: Unpack[PushKeywords]
    ) -> "CommitInfo | Any":
        """Makes config and weights one commit of a repository, which is made if absent.

        Each file of weights is written into a temporary folder (in `TMPDIR`), uploaded, and removed
        before the next one. Nobody sees any of them before the commit, which also removes the
        weights of an earlier push; no other file of the repository goes. It gets a card if it has
        none; one that is there stays, but for metadata that it lacks.

        Args:
            params: the model's tree, as `save_pretrained` takes it.
            repo_id: "organisation/name", or a name in one's own namespace.
            use_temp_dir: False saves into the folder called `repo_id` and pushes from there; None
                does so if there is such a folder.
            commit_message: "Upload model" if None.
            private: of a repository that is made; its owner's default if None.
            token: None and True are the stored login.
            max_shard_size, safe_serialization, variant, format, checksums, quant_method,
                tokenizer_from, progress, save_peft_format: as `save_pretrained`. A `checksums.json`
                in the repository is kept up anyway.
            create_pr: open a pull request instead.
            revision: the branch, "main" if None; made if absent, as main is.
            tags: for the card, beside those that it has and those of `add_model_tags`.
            language, license, finetuned_from, tasks, dataset_tags, dataset, dataset_args, history:
                as `create_model_card`.

        Returns:
            huggingface_hub's `CommitInfo`: `oid`, `commit_url`, `pr_url`, `pr_revision`; where
            nothing differs, of the commit that is there. Where params are spread over processes,
            all of them must call this and get it; where not, process 0 pushes, and the others get
            None.

        Raises:
            HubError: nothing was pushed, and the branch is unchanged, unless it says otherwise.
            TypeError: an argument that there is not, or is no longer.
        """
        return push(self, params, repo_id, **options)

    def add_model_tags(self, tags: str | Iterable[str]) -> Self:
        """Returns the model with more tags, for the card of a repository that it is pushed to. Tags
        are in that card alone: a load does not bring them back, and a push loses none.

        Raises:
            ValueError: a tag that is no text, or empty.
        """
        return self.clone(model_tags=(*self.model_tags, *as_tags(tags)))

    @shows({"params": None, "files": None, "token": None, **defaults_of(CardInfo)})
    def create_model_card(
        self, output_dir: str | os.PathLike, model_name: str, **options: Unpack[CardFileKeywords]
    ) -> Path:
        """Writes `README.md`; see `create_model_card` of `checkpoints/publishing/model_card.py`."""
        return create_model_card(self, output_dir, model_name, **options)
