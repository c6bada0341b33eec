"""Attributes that models of Transformers have and ours have not: what to write instead."""

import difflib

from ..calls.by_name import by_name

_SECOND = (
    "a model holds no params; they are the second of what from_pretrained and init_params make"
)


INSTEAD = by_name(
    {
        "params params_shape_tree required_params _params": (
            f"{_SECOND}: "
            "model, params = Class.from_pretrained(name); shapes are model.abstract_params()"
        ),
        "parameters buffers": f"{_SECOND}: jax.tree.leaves(params)",
        "named_parameters named_buffers": f"{_SECOND}: fp.flatten(params).items()",
        "state_dict": f"{_SECOND}: fp.flatten(params); save_pretrained writes PyTorch's names",
        "load_state_dict": (
            "give it to the load: Class.from_pretrained(None, config=config, state_dict=state_dict)"
        ),
        "load_weights save_weights": (
            "model.save_pretrained(params, folder), and Class.from_pretrained(folder)"
        ),
        "to cuda cpu xpu tpu npu mps": (
            f"{_SECOND}: jax.device_put(params, device_or_sharding) "
            "moves them, fp.cast(params, dtype) casts them, and model.clone(dtype=...) computes in "
            "another dtype"
        ),
        "half": "fp.to_fp16(params), and model.clone(dtype=jnp.float16)",
        "bfloat16": "fp.to_bf16(params), and model.clone(dtype=jnp.bfloat16)",
        "float double type": "fp.to_fp32(params), and model.clone(dtype=jnp.float32)",
        "device": f"{_SECOND}: jax.tree.leaves(params)[0].sharding says where they are",
        "hf_device_map": f"{_SECOND}: fs.picture(params[...]) shows where a leaf is",
        "eval train training": (
            "models have no modes: dropout is off unless a call says deterministic=False, "
            "rngs={'dropout': key}"
        ),
        "forward call": "model.apply({'params': params}, input_ids, attention_mask)",
        "module base_model": (
            "the model is the module, and submodules are params[...]: "
            "Base(model.config).apply({'params': params[Class.base_model_prefix]}, ids)"
        ),
        "requires_grad_ requires_grad freeze": (
            "choose what is trained by a mask: optax.multi_transform, or fp.partition(params, mask)"
        ),
        "zero_grad grad": (
            "jax.grad makes gradients anew: "
            "jax.grad(lambda params: loss(model.apply({'params': params}, ids)))(params)"
        ),
        "init_weights initialize_weights _init_weights reset_parameters": (
            "params = model.init_params(jax.random.key(0))"
        ),
        "torch_dtype": "model.dtype is what is computed in; params have dtypes of their own",
        "is_gradient_checkpointing gradient_checkpointing": "model.remat says it",
        "config_class_name name_or_path": "model.config, and model.origin where it is of the Hub",
        "parallelize deparallelize tensor_parallel": "mesh=fs.make_mesh(tensor=8) at the load",
        "add_memory_hooks": (
            "with fm.memory_trace() as trace: ..., or fm.memory_report(model, params, input_ids)"
        ),
        "reset_memory_hooks_state mem_rss_diff": (
            "with fm.memory_trace() as trace: trace.reset() and trace.mem_rss_diff"
        ),
        "compile compile_training make_train_step make_eval_step train_step test_step "
        "predict_step": (
            "fm.training.compile(model, optimizer, loss, metrics) makes init, train_step, "
            "test_step and predict_step"
        ),
        "fit evaluate predict": (
            "a loop of your own over the steps of fm.training.compile(model, ...)"
        ),
        "compute_loss hf_compute_loss loss_function loss_type": (
            "fm.training.loss(model, outputs, labels)"
        ),
        "prepare_tf_dataset to_tf_dataset": (
            "model.prepare_dataset(dataset, ...) takes its arguments"
        ),
        "eager_serving export": (
            "fm.serving.export(model, params, folder), or model.serving(), the function of it"
        ),
        "quantize": 'params = fp.quantize(params, "int8")',
        "quantization_config is_quantized is_loaded_in_8bit is_loaded_in_4bit hf_quantizer": (
            "whether weights are quantised is in the params: fp.summary(params); the configuration "
            "says how a checkpoint has them: model.config.quantization_config"
        ),
        "active_adapter": "model.active_adapters(params) are the names of those that act",
        "merge_and_unload unload": (
            "model.merge_adapter(params) merges, fp.without_adapters(params) leaves the base"
        ),
        "beam_search greedy_search sample contrastive_search": "model.generate(params, ids, ...)",
        "replace": "model.clone(field=value); of a configuration, model.config.replace(...)",
        "get_base_model": "params[Class.base_model_prefix] are its params",
        "encode decode": "encoder-decoders have it, as BartForConditionalGeneration",
    }
)
"""Name -> what to write, the second half of an error's sentence."""


def error(model: object, name: str) -> AttributeError:
    """Makes the error for an attribute that a model has not."""
    cls = type(model).__name__
    if name in INSTEAD:
        return AttributeError(f"{cls} has no {name!r}: {INSTEAD[name]}", name=name)
    public = [each for each in dir(type(model)) if not each.startswith("_")]
    near = difflib.get_close_matches(name, public, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return AttributeError(
        f"{cls} has no attribute {name!r}{hint} (what setup() makes is there inside init and apply "
        "only)",
        name=name,
    )
