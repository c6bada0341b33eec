"""Pushing: config and weights become one commit; one shard at a time is on the disk."""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import jax

from ... import hub
from ... import params as fp
from ...adapters.folders import write_adapters
from ...calls import keywords
from ...calls.signature import defaults_of, names_of, take, value_of
from ...config.config import CONFIG_NAME
from ...config.generation_config import GENERATION_CONFIG_NAME
from ...core.model import Model
from ...documents.front_matter import listed
from ...params.errors import some
from ...params.formats import FolderFile, is_main_file, is_weights
from ...params.formats.checksums import MANIFEST
from ...params.multihost import any_spread, broadcast, run_on_all_processes
from ...params.save.tensor_specs import tensor_specs
from ...params.sizes import parse_size
from ..options import PushFolderKeywords, PushKeywords, SaveAndPushKeywords
from ..save import is_of_adapters, save, write_side_files, write_weights
from ..save_options import SaveOptions
from .model_card import CardInfo
from .push_commit import PushOptions, release

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

_OLD_NAMES = {
    **dict.fromkeys(("repo_url", "repo_name", "organization"), 'repo_id="organisation/name"'),
    "repo_path_or_name": "repo_id, and save_pretrained(push_to_hub=True) to push from a folder",
    "working_dir": "save_pretrained(push_to_hub=True)",
}

PUSH_DEFAULTS: dict[str, object] = {
    name: (defaults_of(SaveOptions) | defaults_of(PushOptions) | defaults_of(CardInfo)).get(name)
    for name in PushKeywords.__annotations__
}
"""{keyword of a push: its default}."""


def push(
    model: Model, params: fp.PyTree, repo_id: str, **given: Unpack[PushKeywords]
) -> "CommitInfo | None":
    """Makes the model one commit of a repository; see `PretrainedModel.push_to_hub`."""
    options, others = _split(given)
    if odd := others.keys() - PushKeywords.__annotations__:
        raise TypeError(
            f"push_to_hub has no {', '.join(sorted(odd))}; for the card it takes "
            f"{', '.join(names_of(CardInfo))}"
        )
    if not isinstance(repo_id, str):
        raise TypeError(
            f'repo_id is a {type(repo_id).__name__}; give "organisation/name", after the params'
        )
    use_temp_dir = others.pop("use_temp_dir", None)
    saved = SaveOptions(**others, token=options.token)
    if is_of_adapters(params, saved):
        return _by_process_0(params, lambda: _push_adapters(model, params, repo_id, saved, options))
    if use_temp_dir is False or (use_temp_dir is None and os.path.isdir(repo_id)):
        save(model, params, repo_id, saved)
        return _by_process_0(
            params, lambda: _push_folder(Path(repo_id), repo_id, model, params, saved, options)
        )
    # What can be wrong without a request is found before one is made.
    parse_size(saved.max_shard_size)
    tensor_specs(params, model.abstract_params(), model.naming, saved.of_weights().names)
    with contextlib.ExitStack() as stack:
        together = functools.partial(run_on_all_processes, alone=not any_spread(params))

        def start() -> tuple[hub.Push, list[FolderFile]] | None:
            if jax.process_index():
                return None
            companions = saved.companions()
            return stack.enter_context(options.opened(repo_id, saved.progress)), companions

        started = together(start, "beginning a push")
        together(lambda: _write(model, params, started, saved), "sending files")
        return _by_process_0(
            params,
            lambda: (
                started
                and release(started[0], model, params, options, saved.variant, saved.checksums)
            ),
        )


def save_and_push(
    model: Model,
    params: fp.PyTree,
    folder: str | os.PathLike,
    **given: Unpack[SaveAndPushKeywords],
) -> "CommitInfo | None":
    """Saves the model, and then pushes the checkpoint, its tokenizer and its card from the folder;
    returns and raises as `push`."""
    options, others = _split(given)
    repo_id = others.pop("repo_id", None) or Path(os.path.abspath(folder)).name
    saved = value_of(SaveOptions, others | {"token": options.token}, "save_pretrained")
    hub.check_name(repo_id, options.revision or "main")
    save(model, params, folder, saved)
    if is_of_adapters(params, saved):
        return _by_process_0(params, lambda: _push_adapters(model, params, repo_id, saved, options))
    return _by_process_0(
        params, lambda: _push_folder(Path(folder), repo_id, model, params, saved, options)
    )


def upload(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    model: Model,
    params: fp.PyTree = None,
    variant: str | None = None,
    **given: Unpack[PushFolderKeywords],
) -> "CommitInfo":
    """Pushes a saved checkpoint, its tokenizer and its card; returns and raises as `push`.

    Args:
        model, params: for the card; abstract leaves will do.
        **given: private, token, create_pr, revision, commit_message, commit_description, and the
            fields of `CardInfo`.
    """
    options, others = _split(given)
    saved = value_of(SaveOptions, others | {"variant": variant}, "upload")
    return _push_folder(Path(folder), repo_id, model, params, saved, options)


def _split(given: Mapping[str, object]) -> tuple[PushOptions, dict[str, Any]]:
    """Returns (the options of a push, the other keywords: those of saving); refuses keywords that
    push_to_hub had once."""
    for name in given:
        if name in _OLD_NAMES:
            raise TypeError(f"push_to_hub has no {name} any more; give {_OLD_NAMES[name]}")
    others = keywords.with_our_names(given, "push_to_hub")
    card = CardInfo(**take(names_of(CardInfo), others))
    own = take([name for name in names_of(PushOptions) if name != "card"], others)
    return PushOptions(**own, card=card), others


def _push_folder(
    folder: Path,
    repo_id: str,
    model: Model,
    params: fp.PyTree,
    saved: SaveOptions,
    options: PushOptions,
) -> "CommitInfo":
    files = _files(folder, saved.variant)
    with options.opened(repo_id, saved.progress) as pushed:
        pushed.add_copies(files)
        return release(pushed, model, params, options, saved.variant)


def _push_adapters(
    model: Model, params: fp.PyTree, repo_id: str, saved: SaveOptions, options: PushOptions
) -> "CommitInfo":
    """Pushes the adapters of params, and not their base."""

    def write(folder: Path) -> None:
        write_adapters(model, params, folder, prefix=saved.save_peft_format)
        for file in saved.companions():
            hub.copy_companion(file, folder)

    return hub.push_files(
        write,
        repo_id,
        what="adapter",
        commit_message=options.commit_message,
        commit_description=options.commit_description,
        **options.branch,
        tags=("peft", *model.model_tags, *listed(options.card.tags)),
    )


def _files(folder: Path, variant: str | None) -> list[FolderFile]:
    """Lists the files of a folder that are pushed, all of which may be; refuses a folder without
    weights that we write."""
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
    # generation_config.json is both
    files = list(dict.fromkeys(found + hub.companions(str(folder))))
    for file in files:
        file.check()
    return files


def _write(
    model: Model,
    params: fp.PyTree,
    started: tuple[hub.Push, list[FolderFile]] | None,
    saved: SaveOptions,
) -> None:
    """Sends all files; a process that does not push takes part in putting the leaves together."""
    # Without the id of a save, the same params make the same files, which are not sent again.
    if started is None:
        write_weights(model, params, None, saved, save_id=False)
        return
    pushed, companions = started
    write_weights(model, params, pushed.folder, saved, save_id=False, on_file=pushed.take)
    write_side_files(model, params, pushed.folder, companions, saved)
    pushed.add_folder()


def _by_process_0(
    params: fp.PyTree, action: "Callable[[], CommitInfo | None]"
) -> "CommitInfo | None":
    """Returns `action()` of process 0; all get it, where params are spread over them."""
    from huggingface_hub import CommitInfo

    is_local = not any_spread(params)
    info = run_on_all_processes(
        lambda: None if jax.process_index() else action(), "committing", alone=is_local
    )
    if is_local:
        return info
    names = ("commit_url", "commit_message", "commit_description", "oid", "pr_url")
    known = json.dumps({name: getattr(info, name) for name in names}) if info else ""
    told = broadcast("the commit", (lambda: known) if known else None)
    return info or CommitInfo(**json.loads(told))
