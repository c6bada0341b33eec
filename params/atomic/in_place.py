"""In place: new files come into a folder that stays itself; one rename makes them the checkpoint.

What no file refers to yet comes first, under names of its own, and is on the disk before the rest:
then `config.json` and its like, if they differ, and the head are renamed one right after the other.
A kill in between leaves a new config with the old weights, nothing worse. `checksums.json` lists
the files of both saves meanwhile.
"""

import contextlib
import filecmp
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from ..formats.checksums import MANIFEST, write_bridge
from ..host.durable import sync_folder
from .staging import discard

Test = Callable[[str], bool]
_WAITING = re.compile(r"(.+)-[0-9a-f]{8}(\.[^.]+)")


def move_in(
    path: Path,
    folder: Path,
    is_ours: Test,
    is_main_file: Test,
    exchange: Callable[[Path, Path], None],
) -> None:
    """Makes what is in `path` the checkpoint in `folder`; after an error `folder` is what it was.

    Args:
        is_ours, is_main_file: as `replace.atomic_replace`.
        exchange: makes two folders change places, where the disk can.
    """
    names = [name for name in _moved(path, is_main_file) if name != MANIFEST]
    before = path / secrets.token_hex(8)  # what is replaced, until it is certain
    before.mkdir()
    _settle(folder, before, is_ours)
    bridge = write_bridge(path, folder)
    main = list(filter(is_main_file, names))
    beside = [name for name in names if name not in main]
    fresh = [name for name in beside if not os.path.lexists(folder / name)]
    changed = [name for name in beside if name not in fresh and _differ(path, folder, name)]
    old_main = [name for name in filter(is_main_file, os.listdir(folder)) if name not in main]
    with contextlib.ExitStack() as undo:
        replaced = [*changed, MANIFEST] if bridge and (folder / MANIFEST).exists() else changed
        for name in replaced:
            _keep(folder / name, before / name)
        for name in fresh:
            _make_folder((folder / name).parent, undo)
            undo.callback(_restore, before / name, folder / name)
            os.replace(path / name, folder / name)
        _sync_folders(folder, names)
        if bridge:
            undo.callback(_restore, before / MANIFEST, folder / MANIFEST)
            os.replace(path / bridge, folder / MANIFEST)
        for name in changed:
            undo.callback(_restore, before / name, folder / name)
            os.replace(path / name, folder / name)
        for name in main:
            if (path / name).is_dir():
                _put_folder(path / name, folder / name, before, exchange)
            else:
                os.replace(path / name, folder / name)
        undo.pop_all()
        for name in old_main:  # readers may prefer them to the new one
            os.replace(folder / name, before / name)
    _sync_folders(folder, names)
    if bridge:
        os.replace(path / MANIFEST, folder / MANIFEST)
    kept = {name.split(os.sep)[0] for name in names} | ({MANIFEST} if bridge else set())
    for name in sorted(os.listdir(folder), key=lambda name: name != MANIFEST):
        if is_ours(name) and name not in kept:
            _remove(folder / name)
    sync_folder(folder)


def _moved(path: Path, is_main_file: Test) -> list[str]:
    """Lists what is moved, by its names in `path`: a folder that is a checkpoint's head as one,
    every other file by itself."""
    found = []
    for name in os.listdir(path):
        if (path / name).is_dir() and not is_main_file(name):
            below = (file for file in (path / name).rglob("*") if not file.is_dir())
            found += [os.path.relpath(file, path) for file in below]
        else:
            found.append(name)
    return found


def _make_folder(path: Path, undo: contextlib.ExitStack) -> None:
    """Makes a folder and those above it, as far as they are missing."""
    if path.is_dir():
        return
    _make_folder(path.parent, undo)
    path.mkdir()
    undo.callback(_remove_if_empty, path)


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()


def _sync_folders(folder: Path, names: Iterable[str]) -> None:
    for parent in {folder, *((folder / name).parent for name in names)}:
        sync_folder(parent)


def _put_folder(
    source: Path, target: Path, before: Path, exchange: Callable[[Path, Path], None]
) -> None:
    """Puts a folder in the place of another. Where they cannot change places, the new one waits
    under a name by which readers find it while there is no `target`."""
    if not os.path.lexists(target):
        os.rename(source, target)
        return
    try:
        exchange(source, target)
    except OSError:
        waiting = target.with_name(f"{target.stem}-{secrets.token_hex(4)}{target.suffix}")
        os.rename(source, waiting)
        try:
            os.rename(target, before / target.name)
        except OSError:
            os.rename(waiting, source)
            raise
        os.rename(waiting, target)


def _settle(folder: Path, before: Path, is_ours: Test) -> None:
    """Ends what a killed saver began: a folder that waits for its name gets it, or goes if there is
    one of that name."""
    for name in filter(is_ours, os.listdir(folder)):
        found = _WAITING.fullmatch(name)
        if found and (folder / name).is_dir():
            target = folder / "".join(found.groups())
            os.rename(folder / name, before / name if os.path.lexists(target) else target)


def _differ(path: Path, folder: Path, name: str) -> bool:
    """Tells whether the file in `folder` has to be replaced."""
    new, old = path / name, folder / name
    return not old.is_file() or not filecmp.cmp(new, old, shallow=False)


def _keep(path: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, copy)
    except OSError:  # a disk without links
        shutil.copy2(path, copy)


def _restore(copy: Path, path: Path) -> None:
    with contextlib.suppress(OSError):
        if copy.exists():
            os.replace(copy, path)
        else:
            path.unlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        discard(path)
    else:
        path.unlink()
