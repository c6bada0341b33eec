"""Streams a checkpoint onto a mesh, shows where it lies, and runs it.

    scripts/demo                                   the bundled byte-level Llama, on 8 CPU devices
    scripts/demo FOLDER_OR_REPO [--dtype bf16] [--mesh fsdp=4,tensor=2] [--prompt TEXT]

Where the checkpoint does not divide over the mesh, another mesh is taken, and said so.
"""

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _eight_devices  # noqa: F401  before jax
import _text
import jax
import jax.numpy as jnp
import numpy as np

import flaxmodels as fm
from flaxmodels import auto, hub
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.params.tree.measure import format_table

BUNDLED = Path(fm.__file__).resolve().parent / "bundled" / "tiny-llama"
PROMPTS = ["The for statement is used to iterate over", "Return the"]


def main() -> None:
    parser = argparse.ArgumentParser(description="A checkpoint on a mesh.")
    parser.add_argument("checkpoint", nargs="?", help="folder or repository, if not the bundled")
    parser.add_argument("--dtype", type=fp.parse_dtype, help="of params and computation")
    parser.add_argument("--mesh", type=parse_mesh, default={"fsdp": 4, "tensor": 2})
    parser.add_argument("--prompt", action="append", help="may be repeated")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    args = parser.parse_args()
    try:
        show(args)
    except (fp.CheckpointError, fm.ConfigError) as error:
        sys.exit(f"demo: {' '.join(str(error).split())}")


def show(args: argparse.Namespace) -> None:
    bundled = args.checkpoint is None
    folder = hub.download(BUNDLED if bundled else args.checkpoint)
    model_class = auto.architecture(folder)
    stored = args.dtype or "auto"
    dtype = args.dtype or (jnp.bfloat16 if bundled else jnp.float32)

    title(f"{model_class.__name__} on {len(jax.devices())} {jax.default_backend()} devices")
    mesh, plan = plan_on_mesh(model_class, folder, args.mesh, stored)
    print(plan)
    seconds, (model, params) = timed(
        lambda: model_class.from_pretrained(folder, dtype=dtype, param_dtype=stored, mesh=mesh)
    )
    print(f"loaded {fp.num_parameters(params):,} parameters in {seconds:.2f} s")
    show_sharding(params)
    if bundled:
        show_bits(model, params)
    if set(model.dummy_inputs()) == {"input_ids"}:
        show_text(model, params, _text.tokens_of(folder, model.config), args)
    else:
        show_forward(model, params, model.dummy_inputs())
    if bundled:
        show_msgpack(model_class, params, mesh, dtype=dtype, param_dtype=stored)


def plan_on_mesh(model_class: Any, folder: str, asked: dict[str, Any], dtype: Any) -> Any:
    """The mesh `asked` for and the plan of loading onto it, or another mesh that works."""
    count = len(jax.devices())
    meshes: list[dict[str, Any]] = [asked, {"fsdp": count}, {"data": count}]
    for axes in meshes:
        try:
            mesh = fs.make_mesh(**axes)
            plan = fm.load_plan(folder, model_class=model_class, mesh=mesh, param_dtype=dtype)
        except (fp.CheckpointError, fm.ConfigError):
            raise
        except ValueError as error:
            print(textwrap.fill(str(error), 96, subsequent_indent="  "))
            if axes is meshes[-1]:
                sys.exit("demo: no mesh fits")
            print("  so another mesh is tried:")
        else:
            print("mesh", " x ".join(f"{axis}={size}" for axis, size in mesh.shape.items()))
            return mesh, plan


def show_sharding(params: Any) -> None:
    """A picture of the first leaf of every way in which leaves are sharded, and bytes held."""
    title("which devices hold which part")
    leaves = fp.flatten(params)
    first = {leaf.sharding.spec: path for path, leaf in reversed(leaves.items())}
    for path in list(first.values())[::-1][:4]:
        print(fs.picture(leaves[path], path))
    held = fp.memory_footprint(params, per_device=True)
    total = fp.memory_footprint(params)
    rows = [("device", "bytes", "of all")]
    rows += [(str(device), f"{size:,}", f"{size / total:.1%}") for device, size in held.items()]
    print(format_table([*rows, ("params", f"{total:,}", "")], numeric=(1, 2)))


def show_bits(model: Any, params: Any) -> None:
    title("held-out text")
    figures = json.loads((BUNDLED / "training.json").read_text())["sample"]
    text = _text.held_out(_text.SAMPLE)
    print(f"{len(text):,} bytes of topics that were not trained on")
    rows = [("bits per byte", "", "seconds")]
    for dtype in (jnp.bfloat16, jnp.float32):
        run, cast = model.clone(dtype=dtype), fp.cast(params, dtype)
        seconds, bits = timed(lambda: _text.bits_per_byte(run, cast, text))  # noqa: B023
        rows.append((f"model, {jnp.dtype(dtype)}", f"{bits:.3f}", f"{seconds:.1f}"))
    rows += [(name, f"{figures[name]:.3f}", "") for name in ("trigram", "unigram")]
    print(format_table(rows, numeric=(1, 2)))


def show_text(model: Any, params: Any, tokens: _text.Tokens, args: argparse.Namespace) -> None:
    """A forward pass over the prompts and, if the model generates, their continuations."""
    prompts = args.prompt or PROMPTS
    if model.config.pad_token_id is None and not model.can_generate():
        prompts = prompts[:1]  # a classifier could not tell where the shorter ones end
    ids, mask = _text.left_padded([tokens[0](text) for text in prompts], model.config)
    shape = (len(ids), *model.dummy_inputs()["input_ids"].shape[1:-1], -1)  # choices, if any
    inputs = {"input_ids": ids.reshape(shape), "attention_mask": mask.reshape(shape)}
    show_forward(model, params, inputs)
    if model.can_generate() and args.max_new_tokens > 0:
        show_generation(model, params, ids, mask, tokens, args.max_new_tokens)


def show_forward(model: Any, params: Any, inputs: dict[str, Any]) -> None:
    """Prints what one forward pass returns, and whether all of it is finite."""
    title("one forward pass")
    seconds, out = timed(lambda: jax.jit(model.apply)({"params": params}, **inputs))
    print(f"{seconds:.1f} s with compilation")
    for path, leaf in fp.flatten(out).items():
        finite = "finite" if bool(jnp.isfinite(leaf).all()) else "NOT FINITE"
        print(f"{path} {leaf.shape} {leaf.dtype}, {finite}")


def show_generation(
    model: Any, params: Any, ids: np.ndarray, mask: np.ndarray, tokens: _text.Tokens, count: int
) -> None:
    limit = model.config.position_limit
    count = count if limit is None else min(count, limit - ids.shape[1])
    sizes = " and ".join(str(size) for size in mask.sum(axis=1))
    title(f"{count} new tokens after prompts of {sizes}, padded on the left")
    sampled = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "key": jax.random.key(0)}
    for name, how in (("greedy", {"do_sample": False}), ("sampled", sampled)):

        def generate(how: dict[str, Any] = how) -> Any:
            return model.generate(params, ids, mask, max_new_tokens=count, **how)

        (first, out), (second, _) = timed(generate), timed(generate)
        made = int(out.lengths.sum())
        print(f"{name}: {made / first:.0f} tokens/s with compilation, {made / second:.0f} without")
        for prompt, seen, row, new in zip(ids, mask, out.sequences, out.lengths, strict=True):
            text = tokens[1](prompt[seen > 0].tolist())
            more = tokens[1](row[ids.shape[1] : ids.shape[1] + int(new)].tolist())
            for line in f"[{text}]{more}".split("\n"):
                line = "".join(c if c.isprintable() else "?" for c in line)
                print(textwrap.indent(textwrap.fill(line, 92), "  | ") or "  |")


def show_msgpack(model_class: Any, params: Any, mesh: Any, **dtypes: Any) -> None:
    title("the same checkpoint as flax msgpack")
    folder = BUNDLED.with_name("tiny-llama-msgpack")
    seconds, (_, others) = timed(lambda: model_class.from_pretrained(folder, mesh=mesh, **dtypes))
    ours, theirs = fp.flatten(params), fp.flatten(others)
    equal = ours.keys() == theirs.keys() and all(
        np.asarray(ours[path]).tobytes() == np.asarray(theirs[path]).tobytes() for path in ours
    )
    print(f"loaded in {seconds:.2f} s; params are {'bit-equal' if equal else 'DIFFERENT'}")


def parse_mesh(text: str) -> dict[str, int]:
    return {name.strip(): int(size) for name, size in (part.split("=") for part in text.split(","))}


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def title(text: str) -> None:
    print(f"\n== {text} {'=' * (76 - len(text))}", flush=True)


if __name__ == "__main__":
    main()
