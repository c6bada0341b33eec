"""A model's commit: which weights it replaces, and the files that depend on what is there."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..hub.front_matter import CARD_NAME, Words, merged_card
from ..hub.upload import Push
from ..params.formats import is_weights
from ..params.formats.checksums import MANIFEST, manifest
from .model_card import METADATA, metadata, model_card

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


def release(
    pushed: Push,
    model: Any,
    params: Any,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    variant: str | None = None,
    checksums: bool = False,
    tags: Words = None,
    token: str | bool | None = None,
    **card: Any,
) -> "CommitInfo":
    """The commit of a model whose files were added; weights of an earlier one go with it.

    Args:
        params: for the card; abstract leaves will do.
        variant: of the weights; those of others stay.
        checksums: write `checksums.json`; one that is in the repository is kept up anyway.
        tags, **card: as `model_card`.
    """
    files = pushed.digests()
    known = {name: card.get(name) for name in METADATA}

    def replaces(name: str) -> bool:
        top, _, inside = name.partition("/")
        return is_weights(top, variant) and (not inside or top.endswith(".orbax"))

    def new_card() -> str:
        about = {"files": files, "params": params, "tags": tags, "token": token}
        return model_card(model, pushed.branch.name, **about, **card)

    def finish(pushed: Push) -> dict[str, bytes]:
        there, data = pushed.read(CARD_NAME), metadata(model, tags=tags, **known)
        small = {
            CARD_NAME: merged_card(there, data, new_card),
            MANIFEST: _manifest(pushed, replaces, checksums),
        }
        return {name: content for name, content in small.items() if content is not None}

    return pushed.commit(
        commit_message or "Upload model", commit_description, replaces=replaces, finish=finish
    )


def _manifest(pushed: Push, replaces: Callable[[str], bool], is_asked_for: bool) -> bytes | None:
    """`checksums.json`, if it is asked for, or if the repository has one, which would be wrong."""
    digests = pushed.digests()
    if MANIFEST in digests:
        return None
    try:
        there = json.loads(pushed.read(MANIFEST) or b"null")
        old = dict(there["sha256"])
    except (ValueError, TypeError, KeyError):  # none, or none of ours
        if not is_asked_for:
            return None
        old = {}
    stay = {name for name in pushed.branch.head.entries if not replaces(name)} - {CARD_NAME}
    kept = {name: digest for name, digest in old.items() if name in stay}
    return manifest(kept | digests).encode()
