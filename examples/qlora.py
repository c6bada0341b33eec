"""Fine-tunes a pretrained Llama in four bits: QLoRA (Dettmers et al. 2023, arXiv:2305.14314).

    python examples/qlora.py [--steps 60] [--batch 16] [--folder adapter]

The weights are NF4 codes and stay as they are; the optimizer sees an adapter's arrays alone, and
`--folder` gets them in PEFT's format. `--full` trains all weights in float32 instead, to compare.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np
import optax
from _training import docstrings, options

import flaxmodels as fm
from flaxmodels import params as fp

BASE = fm.bundled_checkpoint()  # or any folder or repository
LORA = fp.PeftConfig(target_modules="all-linear", r=16, alpha=32, base_model_name_or_path=str(BASE))
LENGTH, HELD_OUT = 64, 64


def loss(params, model, ids: jax.Array) -> jax.Array:
    """Mean over the bytes of ids [B, T + 1] but the first, each after those before it."""
    logits = model.apply({"params": params}, ids[:, :-1]).logits
    return optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:]).mean()


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def step(model, optimizer, trained, state, rest, ids):
    def of(trained):
        return loss(fp.join_adapters(trained, rest) if rest else trained, model, ids)

    value, grads = jax.value_and_grad(of)(trained)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(trained, updates), state, value


def main(argv: Sequence[str] | None = None) -> tuple[fm.PretrainedModel, fp.Params, float]:
    """Trains -> (model, params with the adapter, the loss of text that was held out)."""
    parser = options(__doc__, steps=60, batch=16)
    parser.add_argument("--full", action="store_true", help="train all weights")
    args = parser.parse_args(argv)

    text = "\n".join(text for text, _ in docstrings(("asyncio", "logging"))).encode()
    rows = np.frombuffer(text[: len(text) // (LENGTH + 1) * (LENGTH + 1)], np.uint8)
    rows = np.random.default_rng(0).permutation(rows.reshape(-1, LENGTH + 1).astype(np.int32))

    model, params = fm.LlamaForCausalLM.from_pretrained(BASE, scan_layers=True)
    if args.full:
        trained, rest = fp.to_fp32(params), {}
    else:
        params = model.add_adapter(fp.quantize(params, "nf4"), LORA, key=jax.random.key(args.seed))
        trained, rest = fp.split_adapters(params)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3 if args.full else 5e-3, args.steps))
    state, random = optimizer.init(trained), np.random.default_rng(args.seed)
    for i in range(args.steps):
        some = rows[HELD_OUT + random.integers(len(rows) - HELD_OUT, size=args.batch)]
        trained, state, value = step(model, optimizer, trained, state, rest, some)
        if (i + 1) % 20 == 0:
            print(f"step {i + 1}: loss {float(value):.3f}")
    params = fp.join_adapters(trained, rest) if rest else trained
    held_out = float(jax.jit(loss, static_argnums=1)(params, model, rows[:HELD_OUT]))
    print(f"held out: {held_out:.3f}, with {fp.num_parameters(trained):,} numbers trained")
    if args.folder:
        model.save_pretrained(params, args.folder)
    return model, params, held_out


if __name__ == "__main__":
    main()
