"""The command line: `flaxmodels convert SOURCE FOLDER`, `plan SOURCE`, `inspect SOURCE`,
`diff A B`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command -> its exit status: 0, or 1 with the reason on stderr; for `diff` 1 where
    there are differences, and 2 with the reason."""
    parser = argparse.ArgumentParser(prog="flaxmodels", description="Pretrained models in JAX.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_convert(commands)
    plan = commands.add_parser("plan", help="print what loading a checkpoint would read")
    plan.add_argument("source", help="a folder or a repository")
    _add_inspect(commands)
    diff = commands.add_parser("diff", help="compare two checkpoints, tensor by tensor")
    diff.add_argument("a", help="a folder, a weights file, or a repository")
    diff.add_argument("b", help="another")
    args = parser.parse_args(arguments)
    run = {"convert": _convert, "plan": _plan, "inspect": _inspect, "diff": _diff}
    try:
        return run[args.command](args)
    except BrokenPipeError:  # whoever reads what is printed has seen enough
        return 0
    except (ValueError, OSError) as error:
        print(f"flaxmodels: {error}", file=sys.stderr)
        return 2 if args.command == "diff" else 1


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
    parser.add_argument("--no-verify", dest="verify", action="store_false", help="no reading back")


def _add_inspect(commands) -> None:
    parser = commands.add_parser("inspect", help="print what a checkpoint holds, from its headers")
    parser.add_argument("source", help="a folder, a weights file, or a repository")
    parser.add_argument("--depth", type=int, help="a row per module down to so many names")
    parser.add_argument("--mesh", help="show the sharding on a mesh: fsdp=4,tensor=2")
    parser.add_argument("--html", metavar="PAGE", help="also write a page for a browser")


def _convert(args: argparse.Namespace) -> int:
    from .convert import convert
    from .params.measure import human

    size = convert(
        args.source,
        args.folder,
        format=args.format,
        dtype=args.dtype,
        max_shard_size=args.max_shard_size,
        variant=args.variant,
        checksums=args.checksums,
        verify=args.verify,
        how={
            "framework": args.framework,
            "variant": args.from_variant,
            "weights_only": not args.any_pickle,
        },
    )
    print(f"{args.folder}: {human(size)}{', verified' if args.verify else ''}")
    return 0


def _plan(args: argparse.Namespace) -> int:
    from .auto import load_plan

    print(load_plan(args.source))
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from . import inspection

    mesh = inspection.parse_mesh(args.mesh) if args.mesh else None
    leaves = inspection.leaves_of(args.source, mesh=mesh)
    print(inspection.table(leaves, args.depth))
    if args.html:
        Path(args.html).write_text(inspection.page(leaves, args.source), encoding="utf-8")
    return 0


def _diff(args: argparse.Namespace) -> int:
    from . import params as fp
    from .hub import fetched, resolve

    found = fp.diff(*(fetched(resolve(name)).open() for name in (args.a, args.b)))
    print(found)
    return 0 if found.equal else 1
