"""Releasing: the commit of a pushed model, and the small files that depend on the repository."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from ... import hub
from ... import params as fp
from ...adapters.folders import warn_of_adapter
from ...core.model import Model
from ...documents.front_matter import CARD_NAME, merged_card
from ...hub.options import PushKeywords as BranchKeywords
from ...params.adapters.peft.config import CONFIG_NAME as ADAPTER_NAME
from ...params.formats import is_weights
from ...params.formats.checksums import MANIFEST, manifest
from .model_card import CardInfo, metadata, model_card

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushOptions:
    """The keywords of `push_to_hub` as one value, but for those of saving;
    `PretrainedModel.push_to_hub` says what they mean."""

    private: bool | None = None
    token: str | bool | None = dataclasses.field(default=None, repr=False)
    create_pr: bool = False
    revision: str | None = None
    commit_message: str | None = None
    commit_description: str | None = None
    card: CardInfo = CardInfo()

    def __post_init__(self) -> None:
        hub.check_message(self.commit_message, self.commit_description)

    @property
    def branch(self) -> BranchKeywords:
        """Which repository, and which of its branches, a push is to."""
        return {
            "private": self.private,
            "token": self.token,
            "create_pr": self.create_pr,
            "revision": self.revision,
        }

    def opened(self, repo_id: str, progress: bool) -> contextlib.AbstractContextManager[hub.Push]:
        """Makes the context of a push to the branch."""
        return hub.pushing(repo_id, progress=progress, **self.branch)


def release(
    pushed: hub.Push,
    model: Model,
    params: fp.PyTree,
    options: PushOptions,
    variant: str | None = None,
    checksums: bool = False,
) -> "CommitInfo":
    """Commits a model whose files were added; the weights of an earlier one go with it.

    Args:
        params: for the card; abstract leaves will do.
        variant: of the weights; those of other variants stay.
        checksums: write `checksums.json`; one that is in the repository is always kept up.
    """
    files, info, message = pushed.digests(), options.card, options.commit_message
    if ADAPTER_NAME in pushed.branch.head.entries:
        warn_of_adapter(pushed.branch)

    def replaces(name: str) -> bool:
        top, _, inside = name.partition("/")
        return is_weights(top, variant) and (not inside or top.endswith(".orbax"))

    def new_card() -> str:
        name = pushed.branch.name
        token = options.token  # to ask the Hub for the license of the original
        return model_card(model, name, info, files=files, params=params, token=token)

    def finish(pushed: hub.Push) -> dict[str, bytes]:
        small = {
            CARD_NAME: merged_card(pushed.read(CARD_NAME), metadata(model, info), new_card),
            MANIFEST: _manifest(pushed, replaces, checksums),
        }
        return {name: content for name, content in small.items() if content is not None}

    return pushed.commit(
        message or "Upload model", options.commit_description, replaces=replaces, finish=finish
    )


def _manifest(
    pushed: hub.Push, replaces: Callable[[str], bool], is_asked_for: bool
) -> bytes | None:
    """Returns the new `checksums.json`; None if it is not asked for and the repository has none."""
    digests = pushed.digests()
    if MANIFEST in digests:
        return None
    try:
        old = dict(json.loads(pushed.read(MANIFEST) or b"null")["sha256"])
    except (ValueError, TypeError, KeyError):  # none, or none of ours
        if not is_asked_for:
            return None
        old = {}
    stay = {name for name in pushed.branch.head.entries if not replaces(name)} - {CARD_NAME}
    kept = {name: digest for name, digest in old.items() if name in stay}
    return manifest(kept | digests).encode()
