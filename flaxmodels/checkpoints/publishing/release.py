"""Releasing: the commit of a pushed model, and the small files that depend on the repository."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from ... import params as fp
from ...core.model import Model
from ...documents.front_matter import CARD_NAME, merged_card
from ...hub.upload import Push
from ...params.formats import is_weights
from ...params.formats.checksums import MANIFEST, manifest
from .model_card import CardInfo, metadata, model_card

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


def release(
    pushed: Push,
    model: Model,
    params: fp.PyTree,
    info: CardInfo,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    variant: str | None = None,
    checksums: bool = False,
    token: str | bool | None = None,
) -> "CommitInfo":
    """Commits a model whose files were added; the weights of an earlier one go with it.

    Args:
        params: for the card; abstract leaves will do.
        info: for the card.
        variant: of the weights; those of other variants stay.
        checksums: write `checksums.json`; one that is in the repository is always kept up.
        token: to ask the Hub for the license of the original.
    """
    files = pushed.digests()

    def replaces(name: str) -> bool:
        top, _, inside = name.partition("/")
        return is_weights(top, variant) and (not inside or top.endswith(".orbax"))

    def new_card() -> str:
        name = pushed.branch.name
        return model_card(model, name, info, files=files, params=params, token=token)

    def finish(pushed: Push) -> dict[str, bytes]:
        small = {
            CARD_NAME: merged_card(pushed.read(CARD_NAME), metadata(model, info), new_card),
            MANIFEST: _manifest(pushed, replaces, checksums),
        }
        return {name: content for name, content in small.items() if content is not None}

    return pushed.commit(
        commit_message or "Upload model", commit_description, replaces=replaces, finish=finish
    )


def _manifest(pushed: Push, replaces: Callable[[str], bool], is_asked_for: bool) -> bytes | None:
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
