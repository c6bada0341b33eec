"""Pushing: config and weights become one commit; one shard at a time is on the disk."""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from .. import hub
from .. import params as fp
from ..calls import keywords
from ..config.config import CONFIG_NAME
from ..config.generation_config import GENERATION_CONFIG_NAME
from ..core.model import Model
from ..params.checkpoint.tensor_specs import tensor_specs
from ..params.checkpoint.write import layout_for
from ..params.errors import some
from ..params.formats import FolderFile, is_main_file, is_weights
from ..params.formats.checksums import MANIFEST
from ..params.multihost import broadcast_text, is_spread, run_on_all_processes
from ..params.sizes import parse_size
from .model_card import METADATA
from .release import release
from .save import companions, save, write_side_files, write_weights

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


_ON_CARD = (*METADATA, "dataset", "dataset_args", "history")
_WHERE = ("private", "token", "create_pr", "revision")
_OF_PUSH = (*_WHERE, "commit_message", "commit_description", "tags", "use_auth_token", *_ON_CARD)
_OLD_NAMES = {
    "repo_url": 'repo_id="organisation/name"',
    "repo_name": 'repo_id="organisation/name"',
    "organization": 'repo_id="organisation/name"',
    "repo_path_or_name": "repo_id, and save_pretrained(push_to_hub=True) to push from a folder",
    "working_dir": "save_pretrained(push_to_hub=True)",
}


def push(
    model: Model,
    params: Any,
    repo_id: str,
    *,
    use_temp_dir: bool | None = None,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    max_shard_size: int | str = "5GB",
    create_pr: bool = False,
    safe_serialization: bool = True,
    revision: str | None = None,
    commit_description: str | None = None,
    tags: hub.Words = None,
    variant: str | None = None,
    format: str | None = None,
    checksums: bool = False,
    tokenizer_from: str | os.PathLike | None = None,
    progress: bool = True,
    use_auth_token: str | bool | None = None,
    **card: Any,
) -> "CommitInfo | None":
    """Makes the model one commit of a repository, which is made if absent.

    Each file of weights is written into a temporary folder (in `TMPDIR`), uploaded, and removed
    before the next one. Nobody sees any of them before the commit, which also removes the weights
    of an earlier push; no other file of the repository goes. It gets a card if it has none
    (`flaxmodels.checkpoints.model_card`); one that is there stays, but for metadata that it lacks.

    Args:
        params: the model's tree, as `save_pretrained` takes it.
        repo_id: "organisation/name", or a name in one's own namespace.
        use_temp_dir: False saves into the folder called `repo_id` and pushes from there; None does
            so if there is such a folder.
        commit_message: "Upload model" if None.
        private: of a repository that is made; its owner's default if None.
        token: None and True are the stored login.
        max_shard_size, safe_serialization, variant, format, checksums, tokenizer_from: as
            `save_pretrained`. Where the repository has a `checksums.json`, it is kept up anyway.
        create_pr: open a pull request instead.
        revision: the branch, "main" if None; made if absent, as main is.
        tags: for the card, beside those that it has and those of `add_model_tags`.
        use_auth_token: the old name of `token`.
        **card: as `model_card`: language, license, finetuned_from, tasks, dataset_tags, dataset,
            dataset_args, history.

    Returns:
        huggingface_hub's `CommitInfo`: `oid`, `commit_url`, `pr_url`, `pr_revision`; where nothing
        differs, of the commit that is there. Where params are spread over processes, all of them
        must call this and get it; where not, process 0 pushes, and the others get None.

    Raises:
        HubError: nothing was pushed, and the branch is what it was, unless it says otherwise.
        TypeError: an argument that there is not, or is no longer.
    """
    how = {
        "format": format or ("safetensors" if safe_serialization else "msgpack"),
        "max_shard_size": max_shard_size,
        "variant": variant,
        "progress": progress,
    }
    where, said = _sorted_out(
        card
        | {"private": private, "token": token, "create_pr": create_pr, "revision": revision}
        | {"commit_message": commit_message, "commit_description": commit_description}
        | {"tags": tags, "use_auth_token": use_auth_token}
    )
    said["variant"] = variant
    if use_temp_dir is False or (use_temp_dir is None and os.path.isdir(repo_id)):
        beside = {"tokenizer_from": tokenizer_from, "token": where["token"], "checksums": checksums}
        save(model, params, repo_id, **how, **beside)
        return _by_first(
            params, lambda: _upload(Path(repo_id), repo_id, where, model, params, said)
        )
    # What can be wrong without a request is found before one is made.
    parse_size(max_shard_size)
    tensor_specs(params, model.abstract_params(), model.naming, layout_for(how["format"]))
    with contextlib.ExitStack() as stack:
        together = functools.partial(run_on_all_processes, alone=not _are_spread(params))
        opened = hub.pushing(repo_id, progress=progress, **where)

        def start() -> tuple[hub.Push, list[FolderFile]] | None:
            if jax.process_index():
                return None
            along = companions(tokenizer_from, where["token"])
            return stack.enter_context(opened), along

        started = together(start)
        together(lambda: _write(model, params, started, how))
        said["checksums"] = checksums
        return _by_first(params, lambda: started and release(started[0], model, params, **said))


def save_and_push(
    model: Model,
    params: Any,
    folder: str | os.PathLike,
    *,
    repo_id: str | None = None,
    **kwargs: Any,
) -> "CommitInfo | None":
    """`save_pretrained`, and then a push of what is in the folder of the checkpoint, its tokenizer
    and its card; returns and raises as `push`, the folder being saved.

    Args:
        repo_id: the folder's name, in one's own namespace, if None.
        **kwargs: as `flaxmodels.checkpoints.save.save`, and as `push`: private, token, create_pr,
            revision, commit_message, commit_description, tags, and what is for the card.
    """
    given = {name: kwargs.pop(name) for name in (*_OF_PUSH, *_OLD_NAMES) if name in kwargs}
    where, said = _sorted_out(given)
    repo_id = repo_id or Path(os.path.abspath(folder)).name
    hub.check_name(repo_id, where.get("revision") or "main")
    save(model, params, folder, token=where.get("token"), **kwargs)
    said["variant"] = kwargs.get("variant")
    return _by_first(params, lambda: _upload(Path(folder), repo_id, where, model, params, said))


def upload(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    model: Model,
    params: Any = None,
    variant: str | None = None,
    **kwargs: Any,
) -> "CommitInfo":
    """A push of a saved checkpoint, its tokenizer and its card; returns and raises as `push`.

    Args:
        model, params: for the card; abstract leaves will do.
        **kwargs: as `push`: private, token, create_pr, revision, commit_message,
            commit_description, tags, and what is for the card.
    """
    where, said = _sorted_out(kwargs)
    return _upload(Path(folder), repo_id, where, model, params, said | {"variant": variant})


def _upload(
    folder: Path,
    repo_id: str,
    where: dict[str, Any],
    model: Model,
    params: Any,
    said: dict[str, Any],
) -> "CommitInfo":
    files = _files(folder, said.get("variant"))
    with hub.pushing(repo_id, **where) as pushed:
        pushed.add_copies(files)
        return release(pushed, model, params, **said)


def _files(folder: Path, variant: str | None) -> list[FolderFile]:
    """What is pushed of a folder, all of which can be.

    Raises:
        fp.CheckpointError: no weights there that we write.
    """
    sides = (CONFIG_NAME, GENERATION_CONFIG_NAME, MANIFEST, hub.CARD_NAME)
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    weights = [name for name in names if is_weights(name, variant)]
    if not any(is_main_file(name, variant) for name in weights):
        raise fp.CheckpointError(
            f"{folder}: no weights to push; looked for safetensors, flax msgpack and orbax"
            f"{f' of variant {variant}' if variant else ''}, found {some(names) or 'nothing'}; "
            "`flaxmodels convert` makes them of other formats"
        )
    plain = [folder / name for name in names if name in weights or name in sides]
    inside = [path for name in plain for path in name.rglob("*")]  # orbax is a folder
    paths = [path for path in (*plain, *inside) if path.is_file()]
    found = [FolderFile(str(folder), path.relative_to(folder).as_posix()) for path in paths]
    found = list(
        dict.fromkeys(found + hub.companions(str(folder)))
    )  # generation_config.json is both
    for file in found:
        file.check()
    return found


def _write(
    model: Model,
    params: Any,
    started: tuple[hub.Push, list[FolderFile]] | None,
    how: dict[str, Any],
) -> None:
    """Sends all files; a process that does not push takes part in putting the leaves together."""
    # Without the id of a save, the same params make the same files, which are not sent again.
    write = functools.partial(write_weights, model, params, save_id=False, **how)
    if started is None:
        write(None)
        return
    pushed, along = started
    write(pushed.folder, on_file=pushed.take)
    write_side_files(model, params, pushed.folder, along)
    pushed.add_folder()


def _by_first(params: Any, act: "Callable[[], CommitInfo | None]") -> "CommitInfo | None":
    """`act()`, by process 0; all get to know, where params are spread over them."""
    is_alone = not _are_spread(params)
    info = run_on_all_processes(lambda: None if jax.process_index() else act(), alone=is_alone)
    if is_alone:
        return info
    names = ("commit_url", "commit_message", "commit_description", "oid", "pr_url")
    said = broadcast_text(json.dumps({name: getattr(info, name) for name in names}) if info else "")
    return info or hub.commit_info(**json.loads(said))


def _are_spread(params: Any) -> bool:
    return any(map(is_spread, jax.tree.leaves(params)))


def _sorted_out(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(where to push, what to say there) of keyword arguments.

    Raises:
        TypeError: one that there is not, or is no longer.
    """
    for name in given:
        if name in _OLD_NAMES:
            raise TypeError(f"push_to_hub has no {name} any more; give {_OLD_NAMES[name]}")
        if name not in _OF_PUSH:
            raise TypeError(
                f"push_to_hub has no {name}; for the card it takes {', '.join(_ON_CARD)}"
            )
    given = keywords.placed(given, "push_to_hub")
    where = {name: given[name] for name in _WHERE if name in given}
    said = {name: given[name] for name in given if name not in _WHERE}
    return where, said | {"token": where.get("token")}
