"""Fine-tunes a pretrained Llama in four bits: QLoRA (Dettmers et al. 2023, arXiv:2305.14314).

    python examples/qlora.py [--folder run] [--steps 60] [--full]

The weights stay NF4 codes; `adapter/` gets the adapter. `--full` trains all weights, to compare.
"""

from _training import bundled, measure, options, rows_of_bytes, say, train

import flaxmodels as fm
from flaxmodels import params as fp

BASE = str(fm.bundled_checkpoint())  # or any folder or repository
LORA = fp.PeftConfig(target_modules="all-linear", r=16, alpha=32, base_model_name_or_path=BASE)


def main(argv=None):
    """Trains -> (model, params with the adapter, the loss of text that was held out)."""
    parser = options(__doc__, steps=60, batch=16)
    parser.add_argument("--full", action="store_true", help="train all weights")
    args = parser.parse_args(argv)
    model, params, mesh = bundled(fm.LlamaForCausalLM, args)
    rows, kind, peak = rows_of_bytes(65, ("asyncio", "logging")), None, 1e-3
    if not args.full:
        params = model.add_adapter(fp.quantize(params, "nf4"), LORA)
        kind, peak = "adapters", 5e-3
    batches = model.prepare_dataset({"input_ids": rows[64:]}, args.batch, seed=args.seed, mesh=mesh)
    others = model.prepare_dataset({"input_ids": rows[:64]}, 64, shuffle=False, mesh=mesh)
    rate = {"name": "cosine", "peak": peak, "steps": args.steps}
    steps = fm.training.compile(model, "adam", learning_rate=rate, trainable=kind, mesh=mesh)
    state = train(steps, params, batches, args)
    loss, before = (measure(steps, x, others)["loss"] for x in (state, steps.init(params)))
    say(f"held out: {loss:.3f}, {before:.3f} before, {fp.num_parameters(state.trained):,} trained")
    if args.folder and not args.full:
        model.save_pretrained(state.params, f"{args.folder}/adapter", progress=False)
    return model, state.params, loss


if __name__ == "__main__":
    main()
