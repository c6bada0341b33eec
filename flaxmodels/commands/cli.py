"""The command line: `flaxmodels chat FOLDER`, `convert SOURCE FOLDER`, `plan SOURCE`,
`export SOURCE`, `inspect SOURCE`, `diff A B`, `download REPO`, `upload FOLDER REPO`,
`card FOLDER`.

Each command is a function of what its parser gives, by name: an option is called as the keyword
that it becomes (`dest`), so that a command hands on what it does not use itself.
"""

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command -> its exit status: 0, or 1 with the reason on stderr; for `diff` 1 where
    there are differences, and 2 with the reason."""
    parser = argparse.ArgumentParser(prog="flaxmodels", description="Pretrained models in JAX.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_chat(commands)
    _add_convert(commands)
    _add_export(commands)
    _add_checkpoints(commands)
    _add_hub(commands)
    given = vars(parser.parse_args(arguments))
    command, run = given.pop("command"), given.pop("run")
    try:
        with _plain_warnings():
            status = run(**given)
        print(end="", flush=True)  # sys.stdout is None after a shell's >&-
        return status or 0
    except BrokenPipeError:  # whoever reads what is printed has seen enough
        with contextlib.suppress(OSError, ValueError):  # nor may the interpreter print the rest
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("flaxmodels: stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, TypeError, ImportError, MemoryError, RecursionError) as error:
        print(f"flaxmodels: {_printable(error)}", file=sys.stderr)
        return 2 if command == "diff" else 1


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Prints warnings as lines of their own, without the line of Python that they are about.
    Recording warnings works as ever."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {_printable(message)}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def _printable(error: BaseException | str) -> str:
    from ..hub.errors import scrubbed
    from ..params.errors import printable

    if isinstance(error, OSError) and error.errno and error.filename:  # the system's own
        error = f"{error.filename}: {error.strerror}"
    return printable(scrubbed(error)) or type(error).__name__


def _add_chat(commands) -> None:
    parser = commands.add_parser("chat", help="talk with a model, or have it continue a text")
    parser.set_defaults(run=_chat)
    parser.add_argument("source", help="a folder or a repository")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told first")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="of an answer")
    parser.add_argument("--temperature", type=float, help="of the draw; 0 for no draw")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", help="that is computed in; float32 on a CPU, else as stored")
    parser.add_argument(
        "--quiet", dest="show", action="store_false", help="print no tokens per second"
    )


def _chat(source: str, **wishes: Any) -> None:
    from . import chat

    chat.run(source, **wishes)


def _add_convert(commands) -> None:
    parser = commands.add_parser("convert", help="write a checkpoint in another format")
    parser.set_defaults(run=_convert)
    parser.add_argument("source", help="a folder, a weights file, or a repository")
    parser.add_argument("folder", help="where to write; made if absent")
    parser.add_argument("--format", default="safetensors", help="safetensors, msgpack or orbax")
    parser.add_argument("--dtype", default="auto", help="what to cast to; as stored by default")
    parser.add_argument("--max-shard-size", default="5GB")
    parser.add_argument("--framework", choices=("pt", "tf", "flax"), help="whose weights to read")
    parser.add_argument("--from-variant", help="the variant to read")
    parser.add_argument("--variant", help="the variant to write")
    parser.add_argument("--checksums", action="store_true", help="also write checksums.json")
    parser.add_argument(
        "--any-pickle",
        dest="weights_only",
        action="store_false",
        help="pass over objects in PyTorch files; runs no code",
    )
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out tensors in whose names this is found; may be repeated",
    )
    parser.add_argument("--no-verify", dest="verify", action="store_false", help="no reading back")


def _convert(
    source: str,
    folder: str,
    framework: str | None,
    from_variant: str | None,
    weights_only: bool,
    **options: Any,
) -> None:
    from ..params.sizes import format_size
    from .convert import convert

    weights = {"framework": framework, "variant": from_variant, "weights_only": weights_only}
    size = convert(source, folder, weights=weights, **options)
    print(f"{folder}: {format_size(size)}{', verified' if options['verify'] else ''}")


def _add_export(commands) -> None:
    parser = commands.add_parser("export", help="make an export again, or one of a checkpoint")
    parser.set_defaults(run=_export)
    parser.add_argument("source", help="a folder of versions, a saved folder, or a repository")
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument(
        "--to", metavar="FOLDER", help="of versions; SOURCE/saved_model if not said"
    )
    parser.add_argument("--platforms", type=lambda text: text.split(","), help="as cpu,cuda,tpu")
    parser.add_argument("--max-length", type=int, help="the most tokens")
    parser.add_argument("--max-batch", type=int, help="the most rows")
    parser.add_argument("--overwrite", action="store_true", default=None)


def _export(**given: Any) -> None:
    from . import export

    print(export.run(**given))


def _add_checkpoints(commands) -> None:
    """Adds the commands that print what checkpoints hold."""
    plan = commands.add_parser("plan", help="print what loading a checkpoint would read")
    plan.set_defaults(run=_plan)
    plan.add_argument("source", help="a folder or a repository")
    inspect = commands.add_parser("inspect", help="print what a checkpoint holds, from its headers")
    inspect.set_defaults(run=_inspect)
    inspect.add_argument("source", help="a folder, a weights file, or a repository")
    inspect.add_argument("--depth", type=int, help="a row per module down to so many names")
    inspect.add_argument("--mesh", help="show the sharding on a mesh: fsdp=4,tensor=2")
    inspect.add_argument("--html", metavar="PAGE", help="also write a page for a browser")
    diff = commands.add_parser("diff", help="compare two checkpoints, tensor by tensor")
    diff.set_defaults(run=_diff)
    diff.add_argument("a", help="a folder, a weights file, or a repository")
    diff.add_argument("b", help="another")


def _plan(source: str) -> None:
    from ..auto import load_plan

    print(load_plan(source))


def _inspect(source: str, depth: int | None, mesh: str | None, html: str | None) -> None:
    from . import inspect

    leaves = inspect.leaves_of(source, mesh=None if mesh is None else inspect.parse_mesh(mesh))
    print(inspect.table(leaves, depth))
    if html is not None:
        Path(html).write_text(inspect.page(leaves, source), encoding="utf-8")


def _diff(a: str, b: str) -> int:
    from .. import params as fp
    from ..hub import fetched, resolve

    result = fp.diff(*(fetched(resolve(name)).open() for name in (a, b)))
    print(result)
    return 0 if result.equal else 1


def _add_hub(commands) -> None:
    """Adds the commands of the Hub. Its token is that of `hf auth login`, or HF_TOKEN: never an
    argument, which everybody on the machine could read."""
    download = commands.add_parser("download", help="fetch a checkpoint, and print its folder")
    download.set_defaults(run=_download)
    download.add_argument("repo", help="organisation/name")
    download.add_argument("--revision", default="main", help="a branch, a tag, a commit, refs/pr/N")
    download.add_argument("--cache-dir")
    download.add_argument("--framework", choices=("pt", "tf", "flax"), help="whose weights")
    download.add_argument("--variant", help="which weights")
    upload = commands.add_parser("upload", help="push a saved checkpoint, in one commit")
    upload.set_defaults(run=_upload)
    upload.add_argument("folder", help="where save_pretrained wrote")
    upload.add_argument("repo", help="organisation/name; made if absent")
    upload.add_argument("--revision", help="the branch; made if absent")
    upload.add_argument("--variant", help="which weights")
    upload.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    upload.add_argument("--private", action="store_true", default=None, help="if it is made")
    upload.add_argument("--message", dest="commit_message", metavar="TEXT", help="of the commit")
    card = commands.add_parser("card", help="write a README.md for a saved checkpoint")
    card.set_defaults(run=_card)
    card.add_argument("folder", help="where save_pretrained wrote")
    card.add_argument("--name", help="organisation/name of its repository; else the folder")
    card.add_argument("--variant", help="which weights")
    card.add_argument("--language", action="append")
    for parser in (upload, card):
        parser.add_argument(
            "--tag", dest="tags", action="append", metavar="TAG", help="for the card"
        )
        parser.add_argument("--license")
        parser.add_argument("--finetuned-from", metavar="REPO", help="the original")


def _download(repo: str, framework: str | None, variant: str | None, **where: Any) -> None:
    from ..hub import download

    print(download(repo, weights={"framework": framework, "variant": variant}, **where))


def _upload(folder: str, repo: str, variant: str | None, **options: Any) -> None:
    from ..auto import saved
    from ..checkpoints.publishing.push import upload

    model, params = saved(folder, variant)
    commit = upload(folder, repo, model=model, params=params, variant=variant, **options)
    print(commit.pr_url or commit.commit_url)


def _card(folder: str, name: str | None, variant: str | None, **card: Any) -> None:
    from ..auto import saved
    from ..checkpoints.publishing.model_card import create_model_card

    model, params = saved(folder, variant)
    print(create_model_card(model, folder, name or folder, params=params, **card))
