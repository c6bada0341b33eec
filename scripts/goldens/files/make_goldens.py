"""Make the golden checkpoints and outputs under tests/goldens with the real libraries.

Run by hand, once in each of two environments; each rewrites its own folders, the same every time:

    python scripts/goldens/files/make_goldens.py torch [--only NAME]
    python scripts/goldens/files/make_goldens.py flax [--only NAME]

Last run with Python 3.11.7 and torch 2.13.0 (CPU), transformers 5.23.0, safetensors 0.8.0; and with
jax 0.4.13, flax 0.7.0, transformers 4.53.3. `expected.safetensors` names them in its metadata.

`_goldens_rope.py` makes tests/goldens/rope in the first of them, by itself.

A golden is `checkpoint/` (what save_pretrained wrote) and `expected.safetensors`:

    in.* out.*    arguments and outputs; in2.* out2.* a further call of the same model
    out.hidden_states.<i> out.attentions.<i>
    cot.* grad.*  gradients of sum(out * cot), under PyTorch parameter names (a tied one once);
                  cot is zero at padded positions: a fully masked query reaches no gradient
    gen.* warp.*  greedy generation; sampling scores, raw and processed

Parameters are drawn from a normal large enough that every bias and every norm moves the output.
A flax golden has the same checkpoint in two more formats beside it, `sharded/` and `safetensors/`.
"""

import argparse
import json
import re

import _goldens_cases as cases
import numpy as np
from _goldens_models import (
    ROOT,
    call,
    draw,
    fresh,
    make_inputs,
    named,
    rng_for,
    save_expected,
    second_inputs,
    torch_model,
    torch_versions,
)
from safetensors.numpy import load_file, save_file

# --- torch ---


def gradients(model, rng, outputs, inputs, everything):
    import torch

    cots = {}
    for name, output in outputs.items():
        cot = rng.standard_normal(output.shape, dtype=np.float32)
        mask = inputs["attention_mask"]
        if cot.shape[: mask.ndim] == mask.shape:
            cot *= mask.reshape(mask.shape + (1,) * (cot.ndim - mask.ndim))
        cots[name] = torch.from_numpy(cot)
    sum((outputs[k] * cots[k]).sum() for k in cots).backward()
    base = model.base_model_prefix + "."
    chosen = {
        name: parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        for name, parameter in model.named_parameters()
        if everything or not name.startswith(base)
    }
    return named("cot", cots) | named("grad", chosen)


def greedy(model, inputs):
    """Twelve new tokens; then the first row stopped early by a token which only it produces."""
    import torch

    arguments = {k: torch.from_numpy(inputs[k]).long() for k in ("input_ids", "attention_mask")}
    options = {"do_sample": False, "max_new_tokens": 12, "pad_token_id": 0}
    model.generation_config.eos_token_id = None
    free = model.generate(**arguments, **options).numpy()
    new = free[:, arguments["input_ids"].shape[1] :]
    early, other = (list(row) for row in new)
    eos = next(int(token) for token in early[2:8] if token not in {*other, *early[:2]})
    stopped = model.generate(**arguments, **options, eos_token_id=eos).numpy()
    arrays = {k: inputs[k] for k in arguments} | {"eos_token_id": np.int32([eos])}
    arrays |= {"greedy": np.int32(free), "greedy_eos": np.int32(stopped)}
    return named("gen", arrays)


def warpers(rng):
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.from_numpy(2 * rng.standard_normal((4, 61), dtype=np.float32))
    steps = {
        "temperature": TemperatureLogitsWarper(0.7),
        "top_k": TopKLogitsWarper(5),
        "top_p": TopPLogitsWarper(0.8),
    }
    warped = {name: step(None, logits) for name, step in steps.items()}
    warped["all"] = logits
    for step in steps.values():  # in the order of generate()
        warped["all"] = step(None, warped["all"])
    return {"gen.logits": logits.numpy()} | named("warp", warped)


def make_head(name, class_name, config, stored):
    folder, (model, rng) = fresh(name), torch_model(class_name, config, seed=name)
    model.save_pretrained(folder / "checkpoint")
    inputs = make_inputs(rng, class_name, model.config)
    outputs = call(model, inputs, full=stored != "head")
    states = {
        f"{kind}.{i}": state
        for kind in ("hidden_states", "attentions")
        for i, state in enumerate(outputs.pop(kind, ()))
    }
    arrays = named("in", inputs) | named("out", outputs | states)
    if stored != "states":
        arrays |= gradients(model, rng, outputs, inputs, everything=stored == "all")
    if second := second_inputs(rng, class_name, model.config, inputs):
        arrays |= named("in2", second) | named("out2", call(model, second))
    if class_name in ("BertLMHeadModel", "GPT2LMHeadModel", "LlamaForCausalLM"):
        arrays |= greedy(model, inputs) | warpers(rng)
    save_expected(folder, arrays, class_name, **torch_versions())


def make_variant(name, class_name, config, *, seed=None, lengths=(9,), edit=None, **saving):
    """A checkpoint, rewritten by `edit(folder)` if given, and the logits of what loads from it."""
    import torch
    import transformers

    folder, (model, rng) = fresh(name), torch_model(class_name, config, seed or name)
    model.to(saving.pop("dtype", torch.float32)).save_pretrained(folder / "checkpoint", **saving)
    if edit:
        edit(folder / "checkpoint")
    cls, arrays = getattr(transformers, class_name), {}
    for i, length in enumerate(lengths):
        suffix = str(i + 1) if i else ""
        inputs = make_inputs(rng, class_name, model.config, length, pad=0 if i else 3)
        # a model just loaded: a dynamic rope keeps what a longer call made of it
        options = {"dtype": torch.float32, "attn_implementation": "eager"}
        again = cls.from_pretrained(folder / "checkpoint", **options)
        arrays |= named(f"in{suffix}", inputs) | named(f"out{suffix}", call(again.eval(), inputs))
    save_expected(folder, arrays, class_name, **torch_versions())


def rename_weights(folder, rename, extra):
    path = folder / "model.safetensors"
    tensors = {rename(k): v for k, v in load_file(path).items()} | extra
    save_file(dict(sorted(tensors.items())), path, {"format": "pt"})


def edit_config(folder, omit=(), **changes):
    """config.json as Transformers 4 wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["torch_dtype"] = config.pop("dtype")
    if rope := config.pop("rope_parameters", None):
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope
    config |= {"transformers_version": "4.53.3", **changes}
    config = {k: v for k, v in config.items() if k not in omit}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def hub_bert(folder):
    """The names in the first BERT files: gamma, beta, a position buffer, the tied decoder again."""
    word = load_file(folder / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    extra = {
        "bert.embeddings.position_ids": np.arange(cases.BERT["max_position_embeddings"])[None],
        "cls.predictions.decoder.weight": word,
    }
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    pattern = "|".join(map(re.escape, old))
    rename_weights(folder, lambda key: re.sub(pattern, lambda m: old[m.group()], key), extra)
    head = {"architectures": ["BertForMaskedLM"], "position_embedding_type": "absolute"}
    edit_config(folder, cases.OMITTED_BY_4, **head)


def hub_gpt2(folder):
    """The names in the first GPT-2 files: the bare model's, and a causal mask in every layer."""
    size = cases.GPT2["n_positions"]
    causal = np.tril(np.ones((1, 1, size, size), np.float32))
    extra = {f"h.{i}.attn.bias": causal for i in range(cases.GPT2["n_layer"])}
    rename_weights(folder, lambda key: key.removeprefix("transformer."), extra)
    edit_config(folder, cases.OMITTED_BY_4, n_ctx=size)


def torch_goldens():
    """name -> (class, function that makes it)."""
    import torch

    makers = {}

    def add(name, class_name, config, *stored, **options):
        make = make_head if stored else make_variant
        makers[name] = class_name, lambda: make(name, class_name, config, *stored, **options)

    for name, case in cases.HEADS.items():
        add(name, *case)
    lms = {"bert": "bert-masked-lm", "gpt2": "gpt2-lm-head", "llama": "llama-causal-lm"}
    for family, source in lms.items():
        size = {"max_shard_size": cases.SHARD_SIZE}
        add(f"{family}-sharded", cases.HEADS[source][0], {}, seed=source, **size)
    for kind, config in cases.BERT_VARIANTS.items():
        labels = {"num_labels": 3} if "classifier_dropout" in config else {}
        head = "BertForSequenceClassification" if labels else "BertForMaskedLM"
        add(f"bert-{kind}", head, config | labels)
    for kind, config in cases.GPT2_VARIANTS.items():
        add(f"gpt2-{kind}", "GPT2LMHeadModel", config)
    for kind, config in cases.LLAMA_VARIANTS.items():
        add(f"llama-{kind}", "LlamaForCausalLM", config)
    for kind, rope in cases.ROPES.items():
        longest = cases.SHORT if kind == "dynamic" else cases.LONG
        rope = {"rope_theta": 10_000.0} | rope
        config = cases.SMALL | {"max_position_embeddings": longest, "rope_parameters": rope}
        add(f"llama-rope-{kind}", "LlamaForCausalLM", config, lengths=(9, 24))
    add("llama-bf16", "LlamaForCausalLM", {}, dtype=torch.bfloat16)
    llama3 = cases.SMALL | {"rope_parameters": {"rope_theta": 500.0} | cases.ROPES["llama3"]}
    llama3["max_position_embeddings"] = cases.LONG
    add("llama-v4-config", "LlamaForCausalLM", llama3, edit=edit_config)
    add("bert-legacy-names", "BertForPreTraining", {}, edit=hub_bert)
    add("gpt2-legacy-names", "GPT2LMHeadModel", {}, seed="gpt2-lm-head", edit=hub_gpt2)
    return makers


# --- flax ---


def make_flax(name, class_name, config):
    import flax
    import jax
    import transformers
    from flax.traverse_util import flatten_dict, unflatten_dict

    cls, rng, folder = getattr(transformers, class_name), rng_for(name), fresh(name)
    model = cls(cls.config_class(**cases.FAMILIES[name.split("-")[1]] | config))
    shapes = flatten_dict(model.params, sep="/")
    drawn = {k: draw(rng, k, shapes[k].shape) for k in sorted(shapes)}
    model.params = unflatten_dict(drawn, sep="/")
    model.save_pretrained(folder / "checkpoint")
    model.save_pretrained(folder / "sharded", max_shard_size=cases.SHARD_SIZE)
    model.save_pretrained(folder / "safetensors", safe_serialization=True)
    inputs = make_inputs(rng, class_name, model.config)
    calls = {"": inputs, "2": second_inputs(rng, class_name, model.config, inputs)}
    arrays = {}
    for suffix, arguments in calls.items():
        if arguments:
            outputs = {k: np.asarray(v) for k, v in model(**arguments).items()}
            arrays |= named(f"in{suffix}", arguments) | named(f"out{suffix}", outputs)
    versions = {m.__name__: m.__version__ for m in (transformers, jax, flax)}
    save_expected(folder, arrays, class_name, **versions)


def flax_goldens():
    def maker(name, class_name, config):
        return class_name, lambda: make_flax(name, class_name, config)

    return {f"flax-{name}": maker(f"flax-{name}", *case) for name, case in cases.FLAX.items()}


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=["torch", "flax"])
    parser.add_argument("--only", metavar="NAME", help="make this golden and no other")
    arguments = parser.parse_args()
    if arguments.library == "torch":
        import torch

        torch.set_num_threads(1)  # one order of summation
    makers = torch_goldens() if arguments.library == "torch" else flax_goldens()
    names = [arguments.only] if arguments.only else list(makers)
    for name in names:
        makers[name][1]()
    for name in names:
        print(f"{name:32} {size_of(ROOT / name):9,}  {makers[name][0]}")
    print(f"{'all of tests/goldens':32} {size_of(ROOT):9,}")


if __name__ == "__main__":
    main()
