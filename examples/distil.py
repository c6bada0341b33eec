"""Distils a pretrained Llama into a smaller one (Hinton et al. 2015, https://arxiv.org/abs/1503.02531).

    python examples/distil.py [--folder run] [--steps 150] [--alone]

The student sees no text's own labels: its loss is how far its distribution of the next byte is from
the teacher's, a function of the outputs and of a column of the batch that the model does not take.
`--alone` trains it on the text instead, to compare.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from _training import Mapped, bundled, measure, options, rows_of_bytes, say, train

import flaxmodels as fm
from flaxmodels import training

LENGTH, HELD_OUT = 128, 64


def divergence(outputs, labels) -> jax.Array:
    """Returns KL(teacher | student) of each token [B, T]."""
    teacher = jax.nn.log_softmax(labels["teacher"].astype(jnp.float32))
    student = jax.nn.log_softmax(outputs.logits.astype(jnp.float32))
    return (jnp.exp(teacher) * (teacher - student)).sum(-1)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the loss of the student and of the teacher on text that is held out."""
    parser = options(__doc__, steps=150, batch=16)
    parser.add_argument("--alone", action="store_true", help="train on the text, without a teacher")
    args = parser.parse_args(argv)
    teacher, taught, mesh = bundled(fm.LlamaForCausalLM, args)
    config = teacher.config.replace(
        hidden_size=64, intermediate_size=176, num_hidden_layers=2, head_dim=16
    )
    student = fm.LlamaForCausalLM(config, dtype=teacher.dtype, scan_layers=True)

    rows = rows_of_bytes(LENGTH)
    how = {"mesh": mesh, "seed": args.seed}
    batches = student.prepare_dataset({"input_ids": rows[HELD_OUT:]}, args.batch, **how)
    others = student.prepare_dataset({"input_ids": rows[:HELD_OUT]}, HELD_OUT, False, **how)

    rate = {"name": "cosine", "peak": 4e-3, "warmup": min(20, args.steps // 2), "steps": args.steps}
    how = {"learning_rate": rate, "clip_norm": 1.0, "mesh": mesh}
    own = training.compile(student, **how)  # the loss of the text itself
    if args.alone:
        state = train(own, jax.random.key(args.seed), batches, args)
    else:
        apply = jax.jit(teacher.apply)

        def with_teacher(batch):
            logits = apply({"params": taught}, batch["input_ids"]).logits
            return {"input_ids": batch["input_ids"], "teacher": logits}

        steps = training.compile(student, loss=divergence, **how)
        state = train(steps, jax.random.key(args.seed), Mapped(batches, with_teacher), args)

    loss = measure(own, state, others)["loss"]
    of_teacher = training.compile(teacher, mesh=mesh)
    best = measure(of_teacher, of_teacher.init(taught), others)["loss"]
    sizes = [fm.params.num_parameters(params) for params in (state.params, taught)]
    say(f"held out: loss {loss:.3f} of the student ({sizes[0]:,} numbers), {best:.3f} of the")
    say(f"teacher ({sizes[1]:,}); of a guess {jnp.log(256):.3f}")
    return {"loss": loss, "teacher": best, "baseline": float(jnp.log(256))}


if __name__ == "__main__":
    main()
