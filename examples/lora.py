"""Fine-tunes a pretrained Llama by a low-rank adapter: LoRA (Hu et al. 2021, arXiv:2106.09685).

    python examples/lora.py [--folder run] [--steps 60] [--rank 8] [--merge]

The loaded weights stay as they are, in bfloat16; the adapter is trained in float32, and `adapter/`
of `--folder` gets it in PEFT's format. `--merge` adds it to the weights, and `merged/` gets those.
"""

from collections.abc import Sequence

import jax
from _training import bundled, measure, options, rows_of_bytes, say, train

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import training

LENGTH, HELD_OUT = 65, 64


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the loss of text that is held out, after and before."""
    parser = options(__doc__, steps=60, batch=16)
    parser.add_argument("--rank", type=int, default=8, help="of the adapter, default %(default)s")
    parser.add_argument("--merge", action="store_true", help="save merged weights as well")
    args = parser.parse_args(argv)
    model, params, mesh = bundled(fm.LlamaForCausalLM, args)
    lora = fp.PeftConfig(
        target_modules="all-linear",
        r=args.rank,
        alpha=2 * args.rank,
        base_model_name_or_path=str(fm.bundled_checkpoint()),
    )
    params = model.add_adapter(params, lora, key=jax.random.key(args.seed))

    rows = rows_of_bytes(LENGTH, ("asyncio", "logging"))
    how = {"seed": args.seed, "mesh": mesh}
    batches = model.prepare_dataset({"input_ids": rows[HELD_OUT:]}, args.batch, **how)
    others = model.prepare_dataset({"input_ids": rows[:HELD_OUT]}, HELD_OUT, False, **how)

    steps = training.compile(
        model,
        learning_rate={"name": "cosine", "peak": 5e-3, "steps": args.steps},
        trainable="adapters",
        mesh=mesh,
    )
    before = measure(steps, steps.init(params), others)["loss"]
    state = train(steps, params, batches, args)
    loss, trained = measure(steps, state, others)["loss"], fp.num_parameters(state.trained)
    say(f"held out: loss {loss:.3f}, {before:.3f} before; {trained:,} numbers trained")
    if args.folder:
        model.save_pretrained(state.params, f"{args.folder}/adapter", progress=False)
    if args.folder and args.merge:
        merged = model.merge_adapter(state.params)
        model.save_pretrained(merged, f"{args.folder}/merged", progress=False)
    return {"loss": loss, "baseline": before}


if __name__ == "__main__":
    main()
