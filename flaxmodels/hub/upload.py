"""Uploads: files that a caller writes become one commit of a repository, all of them or none."""

import contextlib
import os
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from .. import params as fp
from ..documents.front_matter import CARD_NAME, Words, front_matter, listed, merged_card
from ..params.errors import quoted, some, warn
from ..params.formats import FolderFile
from .branch import Branch, Message, PushedFile, is_private, operations_of
from .client import pause
from .companions import code_named
from .errors import HubError
from .options import PushKeywords

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

_MOST_WAITING = 1 << 30  # bytes of copies, of which the last may be as large as a file of weights
_COMMITS = 3  # tries, each on top of what the branch is by then


def push_files(
    write: Callable[[Path], object],
    repo_id: str,
    *,
    what: str = "files",
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    tags: Words = None,
) -> "CommitInfo":
    """Pushes the files that `write(folder)` writes, as one commit.

        push_files(tokenizer.save_pretrained, "org/name", what="tokenizer")

    Args:
        repo_id: "organisation/name", or a name in one's own namespace; made if absent.
        commit_message: f"Upload {what}" if None.
        private: of a repository that is made; its owner's default if None.
        token: None and True are the stored login.
        create_pr: open a pull request instead.
        revision: the branch, "main" if None; made if absent, as main is.
        tags: added to those of the repository's card.

    Returns:
        huggingface_hub's `CommitInfo`: `oid`, `commit_url`, `pr_url`, `pr_revision`.

    Raises:
        HubError: nothing was pushed, and the branch is what it was.
    """
    if not callable(write):
        raise TypeError(
            f"write is {write!r:.80}; expected a function that writes files into the folder that "
            "it is given"
        )
    check_message(commit_message, commit_description)
    data = {"tags": listed(tags)}

    def finish(push: Push) -> dict[str, bytes]:
        if not tags:
            return {}
        card = merged_card(push.read(CARD_NAME), data, lambda: front_matter(data))
        return {} if card is None else {CARD_NAME: card}

    with pushing(
        repo_id, private=private, token=token, create_pr=create_pr, revision=revision
    ) as push:
        write(push.folder)
        push.add_folder()
        return push.commit(commit_message or f"Upload {what}", commit_description, finish=finish)


def check_message(message: object, description: object) -> None:
    """Raises TypeError where a commit's message or description is no text."""
    for name, value in (("commit_message", message), ("commit_description", description)):
        if not isinstance(value, str | None):
            raise TypeError(f"{name} is {value!r:.80}; expected text")


@contextlib.contextmanager
def pushing(
    repo_id: str, *, progress: bool = True, **options: Unpack[PushKeywords]
) -> Iterator["Push"]:
    """Opens a push with a temporary folder; arguments as `push_files`."""
    with _progress_bars(progress), tempfile.TemporaryDirectory(prefix="flaxmodels-push-") as folder:
        push = Push(Branch(repo_id, **options), Path(folder))
        try:
            yield push
        except _Unknown:
            raise
        except fp.CheckpointError as error:
            may_pass = isinstance(error, HubError) and error.may_pass
            message = f"{error}; nothing was pushed: {push.branch} is what it was"
            raise HubError(message, may_pass=may_pass) from None


@contextlib.contextmanager
def _progress_bars(shown: bool) -> Iterator[None]:
    """Lets the client show its bars inside, or not."""
    from huggingface_hub import utils

    if shown or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


class Push:
    """Files that become a commit: large ones are uploaded when they are added, and nobody sees
    them before `commit`.

    Args:
        folder: where files are written before they are added.
    """

    def __init__(self, branch: Branch, folder: Path):
        self.branch, self.folder = branch, folder
        self._files: dict[str, PushedFile] = {}

    def add(self, files: Mapping[str, str | os.PathLike]) -> None:
        """Adds {name in the repository: path}, and uploads those that are large.

        Raises:
            HubError: they cannot be uploaded, or the repository would leave them out.
        """
        if files:
            new = {name: PushedFile.of(name, path) for name, path in files.items()}
            for name, path in files.items():
                _warn_of_code(self.branch, name, os.fspath(path))
            self.branch.upload([file.operation for file in new.values()])
            self._files |= new

    def add_folder(self) -> None:
        """Adds all that is in the folder and was not added before.

        Raises:
            HubError: hidden files, or one that is called as tokens are; none of it is sent.
            fp.CheckpointError: a link that leads out of the folder.
        """
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = {path.relative_to(self.folder).as_posix(): path for path in paths}
        new = {name: path for name, path in names.items() if name not in self._files}
        for name in new:
            if is_private(name):
                raise HubError(
                    f"{self.branch}: {quoted(name)} is among what was written to be pushed; "
                    "hidden files and tokens are not published: write it elsewhere"
                )
            FolderFile(str(self.folder), name).check()
        self.add(new)

    def take(self, path: str) -> None:
        """Adds a file of the folder; a large one is gone from the disk then."""
        self._take({Path(path).relative_to(self.folder).as_posix(): path})

    def add_copies(self, files: Iterable[FolderFile]) -> None:
        """Adds files of another folder by copies, few GiB of which are there at a time: the file
        that was opened is uploaded, even if another gets its name meanwhile.

        Raises:
            HubError: as `add`.
            fp.CheckpointError: as `FolderFile.copy`.
        """
        waiting: dict[str, Path] = {}
        size = 0
        for file in files:
            copy = waiting[file.name] = file.copy(self.folder)
            size += copy.stat().st_size
            if size >= _MOST_WAITING:
                self._take(waiting)
                waiting, size = {}, 0
        self._take(waiting)

    def _take(self, files: Mapping[str, str | os.PathLike]) -> None:
        self.add(files)
        for name, path in files.items():
            if self._files[name].is_uploaded:
                os.unlink(path)

    def digests(self) -> dict[str, str]:
        """Returns {name: sha256} of what was added."""
        return {name: file.sha256 for name, file in self._files.items()}

    def read(self, name: str) -> bytes | None:
        """Reads a small file that was added, or that the repository has; None if absent."""
        if name in self._files:
            return Path(self._files[name].path).read_bytes()
        head = self.branch.head
        return head.read(name) if name in head.entries else None

    def commit(
        self,
        message: str,
        description: str | None = None,
        *,
        replaces: Callable[[str], bool] = lambda name: False,
        finish: Callable[["Push"], Mapping[str, bytes]] = lambda push: {},
    ) -> "CommitInfo":
        """Commits the files that were added, on top of the branch; where another commit comes
        first, on top of that. Where nothing differs, the branch's commit is returned.

        Args:
            replaces: which files of the repository are deleted, if they were not added.
            finish: small files that depend on what is in the repository; called for each try.

        Raises:
            HubError: the branch is what it was, unless the error says that this is not known.
        """
        said = Message(commit_message=message, commit_description=description or "")
        branch, error = self.branch, None
        for count in range(_COMMITS):
            if count:
                pause(2.0**count * random.uniform(0.5, 1))
                branch.refresh()
            files = self._files | self._written(finish(self))
            gone = [name for name in branch.head.entries if replaces(name) and name not in files]
            changed = [file for name, file in files.items() if not file.is_in(branch.head, name)]
            branch.create()
            if not changed and not gone:
                return branch.info(branch.head.commit, said)
            error = None
            try:
                info = branch.post(operations_of(changed, gone), said)
            except HubError as failure:
                info, error = None, failure
            info = info or self._find(files, gone, said)
            if info is not None:
                return info
            if error is not None and not error.may_pass:
                break
        raise error or HubError(f"{branch}: other commits came first, {_COMMITS} times; push again")

    def _find(
        self, files: dict[str, PushedFile], gone: list[str], message: Message
    ) -> "CommitInfo | None":
        """Finds the commit that was made although its answer was lost."""
        try:
            following = self.branch.next()
        except HubError as error:
            raise _Unknown(
                f"{error}; whether the commit was made is not known: look at {self.branch.url}; "
                "to push again does no harm"
            ) from None
        if following is None:
            return None
        repository, ref = following
        is_ours = all(file.is_in(repository, name) for name, file in files.items())
        if not is_ours or any(name in repository.entries for name in gone):
            return None
        return self.branch.info(repository.commit, message, ref)

    def _written(self, contents: Mapping[str, bytes]) -> dict[str, PushedFile]:
        for name, content in contents.items():
            (self.folder / name).write_bytes(content)
        return {name: PushedFile.of(name, self.folder / name) for name in contents}


def _warn_of_code(branch: Branch, name: str, path: str) -> None:
    """Warns of a configuration that names code; it is pushed all the same."""
    folder, file = os.path.split(path)
    if code := code_named(FolderFile(folder, file)):
        warn(
            f"{branch}: {quoted(name)} is pushed with {some(code)}, which names code that "
            "others may run: take it out unless you trust it"
        )


class _Unknown(HubError):
    """It is not known whether a commit was made."""
