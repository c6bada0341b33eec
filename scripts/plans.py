"""Prints the table of plans of docs/sharding.md: large models on 8, 256 and 4096 devices.

scripts/plans.py
"""

import json
from pathlib import Path

import jax.numpy as jnp
from jax.sharding import AbstractMesh

import flaxmodels as fm
from flaxmodels import sharding as fs

PUBLISHED = Path(__file__).parents[1] / "tests/goldens/published.json"
RATES = fs.Rates(disk=2e9, bus=25e9, memory=3e12, network=50e9)
DENSE = {8: {"tensor": 8}, 256: {"fsdp": 32, "tensor": 8}, 4096: {"fsdp": 512, "tensor": 8}}
EXPERTS = {
    8: {"expert": 8},
    256: {"expert": 32, "tensor": 8},
    4096: {"fsdp": 16, "expert": 32, "tensor": 8},
}


def published(name: str) -> dict:
    """Returns the template of a published checkpoint, in bfloat16."""
    entry = json.loads(PUBLISHED.read_text())[name]
    values, cls = dict(entry["config"]), getattr(fm, entry["class"])
    if period := values.pop("layer_types_period", None):
        layers = values["num_hidden_layers"]
        values["layer_types"] = (period * layers)[:layers]
    config = cls.config_class.from_dict(values)
    return cls(config, scan_layers=True).abstract_params(jnp.bfloat16)


def deepseek_v3() -> dict:
    """Returns the shapes of DeepSeek-V3 (arXiv:2412.19437, section 4.2), whose family is not
    implemented: 3 layers with an MLP, 58 with 256 experts and one that is shared."""
    width, heads = 7168, 128

    def leaf(shape, *axes):
        return fs.AbstractParam(shape, jnp.bfloat16, axes=axes)

    def layers(count, mlp):
        def one(shape, *axes):
            return leaf((count, *shape), "layers", *axes)

        def kernel(*args):
            return {"kernel": one(*args)}

        attention = {
            "q_a_proj": kernel((width, 1536), "embed", "norm"),
            "q_a_layernorm": {"scale": one((1536,), "norm")},
            "q_b_proj": kernel((1536, heads * 192), "norm", "heads"),
            "kv_a_proj_with_mqa": kernel((width, 512 + 64), "embed", "norm"),
            "kv_a_layernorm": {"scale": one((512,), "norm")},
            "kv_b_proj": kernel((512, heads * 256), "norm", "heads"),
            "o_proj": kernel((heads * 128, width), "heads", "embed"),
        }
        norms = {name: {"scale": one((width,), "norm")} for name in ("input", "post_attention")}
        return {"self_attn": attention, "norms": norms, "mlp": mlp(kernel)}

    def gated(kernel, inner, *outer):
        shape, axes = tuple(size for size, _ in outer), tuple(axis for _, axis in outer)
        into = kernel((*shape, width, inner), *axes, "embed", "mlp")
        down = kernel((*shape, inner, width), *axes, "mlp", "embed")
        return {"gate_proj": into, "up_proj": into, "down_proj": down}

    def with_experts(kernel):
        return {
            "gate": kernel((width, 256), "embed", "norm"),
            "experts": gated(kernel, 2048, (256, "experts")),
            "shared_experts": gated(kernel, 2048),
        }

    return {
        "embed_tokens": {"embedding": leaf((129280, width), "vocab", "embed")},
        "dense": layers(3, lambda kernel: gated(kernel, 18432)),
        "sparse": layers(58, with_experts),
        "norm": {"scale": leaf((width,), "norm")},
        "lm_head": {"kernel": leaf((width, 129280), "embed", "vocab")},
    }


MODELS = {
    "Llama 3.1 405B": (lambda: published("meta-llama/Llama-3.1-405B"), "fsdp+tensor", DENSE),
    "Qwen3 32B": (lambda: published("Qwen/Qwen3-32B"), "fsdp+tensor", DENSE),
    "DeepSeek-V3": (deepseek_v3, "expert", EXPERTS),
}


def plan(template: dict, rules: str, axes: dict[str, int]) -> fs.Plan:
    """Plans one sequence of 4096 tokens a device."""
    mesh = AbstractMesh(tuple(axes.values()), tuple(axes))
    options = {"batch": mesh.size, "length": 4096, "experts_per_token": 8, "rates": RATES}
    return fs.plan(template, mesh, rules, **options)


def main() -> None:
    print("| model | mesh | on a device | read by a host | load | a token | forward | train step |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (make, rules, meshes) in MODELS.items():
        template = make()
        for axes in meshes.values():
            found = plan(template, rules, axes)
            cells = [
                name,
                ", ".join(f"{axis}={size}" for axis, size in axes.items()),
                f"{found.bytes_per_device / 1e9:.2f} GB",
                f"{found.bytes_per_host / 1e9:.1f} GB",
                f"{found.load_seconds:.1f} s",
                f"{found.decode_seconds * 1e3:.0f} ms",
                *map(sent, (found.forward, found.train)),
            ]
            print("| " + " | ".join(cells) + " |")


def sent(traffic: tuple[fs.Traffic, ...]) -> str:
    """Formats how many collectives there are, and the bytes of their results."""
    count, nbytes = (sum(getattr(each, n) for each in traffic) for n in ("count", "nbytes"))
    return f"{count:,} of {nbytes / 1e9:,.0f} GB"


if __name__ == "__main__":
    main()
