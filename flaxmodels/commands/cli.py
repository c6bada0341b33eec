"""The command line: `flaxmodels chat FOLDER`, `convert SOURCE FOLDER`, `plan SOURCE`,
`export SOURCE`, `inspect SOURCE`, `diff A B`, `download REPO`, `upload FOLDER REPO`,
`card FOLDER`."""

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command -> its exit status: 0, or 1 with the reason on stderr; for `diff` 1 where
    there are differences, and 2 with the reason."""
    parser = argparse.ArgumentParser(prog="flaxmodels", description="Pretrained models in JAX.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_chat(commands)
    _add_convert(commands)
    _add_export(commands)
    plan = commands.add_parser("plan", help="print what loading a checkpoint would read")
    plan.add_argument("source", help="a folder or a repository")
    _add_inspect(commands)
    diff = commands.add_parser("diff", help="compare two checkpoints, tensor by tensor")
    diff.add_argument("a", help="a folder, a weights file, or a repository")
    diff.add_argument("b", help="another")
    _add_hub(commands)
    args = parser.parse_args(arguments)
    run = {
        "chat": _chat,
        "convert": _convert,
        "export": _export,
        "plan": _plan,
        "inspect": _inspect,
        "diff": _diff,
        "download": _download,
        "upload": _upload,
        "card": _card,
    }
    try:
        with _plain_warnings():
            status = run[args.command](args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads what is printed has seen enough
        with contextlib.suppress(OSError, ValueError):  # nor may the interpreter print the rest
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("flaxmodels: stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, TypeError, ImportError, MemoryError, RecursionError) as error:
        print(f"flaxmodels: {_printable(error)}", file=sys.stderr)
        return 2 if args.command == "diff" else 1


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

    return printable(scrubbed(error)) or type(error).__name__


def _add_chat(commands) -> None:
    parser = commands.add_parser("chat", help="talk with a model, or have it continue a text")
    parser.add_argument("source", help="a folder or a repository")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told first")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="of an answer")
    parser.add_argument("--temperature", type=float, help="of the draw; 0 for no draw")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", help="that is computed in; float32 on a CPU, else as stored")
    parser.add_argument("--quiet", action="store_true", help="print no tokens per second")


def _add_convert(commands) -> None:
    parser = commands.add_parser("convert", help="write a checkpoint in another format")
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
        "--any-pickle", action="store_true", help="pass over objects in PyTorch files; runs no code"
    )
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out tensors in whose names this is found; may be repeated",
    )
    parser.add_argument("--no-verify", dest="verify", action="store_false", help="no reading back")


def _add_export(commands) -> None:
    parser = commands.add_parser("export", help="make an export again, or one of a checkpoint")
    parser.add_argument("source", help="a folder of versions, a saved folder, or a repository")
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument(
        "--to", metavar="FOLDER", help="of versions; SOURCE/saved_model if not said"
    )
    parser.add_argument("--platforms", help="such as cpu,cuda,tpu")
    parser.add_argument("--max-length", type=int, help="the most tokens")
    parser.add_argument("--max-batch", type=int, help="the most rows")
    parser.add_argument("--overwrite", action="store_true", default=None)


def _add_inspect(commands) -> None:
    parser = commands.add_parser("inspect", help="print what a checkpoint holds, from its headers")
    parser.add_argument("source", help="a folder, a weights file, or a repository")
    parser.add_argument("--depth", type=int, help="a row per module down to so many names")
    parser.add_argument("--mesh", help="show the sharding on a mesh: fsdp=4,tensor=2")
    parser.add_argument("--html", metavar="PAGE", help="also write a page for a browser")


def _add_hub(commands) -> None:
    """Adds the commands of the Hub. Its token is that of `hf auth login`, or HF_TOKEN: never an
    argument, which everybody on the machine could read."""
    download = commands.add_parser("download", help="fetch a checkpoint, and print its folder")
    download.add_argument("repo", help="organisation/name")
    download.add_argument("--revision", default="main", help="a branch, a tag, a commit, refs/pr/N")
    download.add_argument("--cache-dir")
    download.add_argument("--framework", choices=("pt", "tf", "flax"), help="whose weights")
    download.add_argument("--variant", help="which weights")
    upload = commands.add_parser("upload", help="push a saved checkpoint, in one commit")
    upload.add_argument("folder", help="where save_pretrained wrote")
    upload.add_argument("repo", help="organisation/name; made if absent")
    upload.add_argument("--revision", help="the branch; made if absent")
    upload.add_argument("--variant", help="which weights")
    upload.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    upload.add_argument("--private", action="store_true", default=None, help="if it is made")
    upload.add_argument("--message", help="of the commit")
    card = commands.add_parser("card", help="write a README.md for a saved checkpoint")
    card.add_argument("folder", help="where save_pretrained wrote")
    card.add_argument("--name", help="organisation/name of its repository; else the folder")
    card.add_argument("--variant", help="which weights")
    card.add_argument("--language", action="append")
    for parser in (upload, card):
        parser.add_argument("--tag", action="append", help="for the card; may be repeated")
        parser.add_argument("--license")
        parser.add_argument("--finetuned-from", metavar="REPO", help="the original")


def _chat(args: argparse.Namespace) -> int:
    from . import chat

    wishes = chat.Wishes(
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        system=args.system,
        seed=args.seed,
        dtype=args.dtype,
        show=not args.quiet,
    )
    chat.run(args.source, wishes)
    return 0


def _convert(args: argparse.Namespace) -> int:
    from ..params.sizes import format_size
    from .convert import convert

    size = convert(
        args.source,
        args.folder,
        format=args.format,
        dtype=args.dtype,
        max_shard_size=args.max_shard_size,
        variant=args.variant,
        checksums=args.checksums,
        verify=args.verify,
        drop=args.drop,
        weights={
            "framework": args.framework,
            "variant": args.from_variant,
            "weights_only": not args.any_pickle,
        },
    )
    print(f"{args.folder}: {format_size(size)}{', verified' if args.verify else ''}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from . import export

    path = export.run(
        args.source,
        args.version,
        to=args.to,
        platforms=args.platforms and args.platforms.split(","),
        max_length=args.max_length,
        max_batch=args.max_batch,
        overwrite=args.overwrite,
    )
    print(path)
    return 0


def _plan(args: argparse.Namespace) -> int:
    from ..auto import load_plan

    print(load_plan(args.source))
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from . import inspect

    mesh = inspect.parse_mesh(args.mesh) if args.mesh else None
    leaves = inspect.leaves_of(args.source, mesh=mesh)
    print(inspect.table(leaves, args.depth))
    if args.html:
        Path(args.html).write_text(inspect.page(leaves, args.source), encoding="utf-8")
    return 0


def _diff(args: argparse.Namespace) -> int:
    from .. import params as fp
    from ..hub import fetched, resolve

    result = fp.diff(*(fetched(resolve(name)).open() for name in (args.a, args.b)))
    print(result)
    return 0 if result.equal else 1


def _download(args: argparse.Namespace) -> int:
    from ..hub import download

    weights = {"framework": args.framework, "variant": args.variant}
    folder = download(args.repo, weights=weights, revision=args.revision, cache_dir=args.cache_dir)
    print(folder)
    return 0


def _upload(args: argparse.Namespace) -> int:
    from ..auto import saved
    from ..checkpoints.publishing.push import upload

    model, params = saved(args.folder, args.variant)
    commit = upload(
        args.folder,
        args.repo,
        model=model,
        params=params,
        variant=args.variant,
        revision=args.revision,
        create_pr=args.create_pr,
        private=args.private,
        commit_message=args.message,
        tags=args.tag,
        license=args.license,
        finetuned_from=args.finetuned_from,
    )
    print(commit.pr_url or commit.commit_url)
    return 0


def _card(args: argparse.Namespace) -> int:
    from ..auto import saved
    from ..checkpoints.publishing.model_card import create_model_card

    model, params = saved(args.folder, args.variant)
    path = create_model_card(
        model,
        args.folder,
        args.name or args.folder,
        params=params,
        tags=args.tag,
        language=args.language,
        license=args.license,
        finetuned_from=args.finetuned_from,
    )
    print(path)
    return 0
