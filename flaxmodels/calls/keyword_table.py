"""The keywords of Transformers and its Flax classes: what becomes of each, by its name."""

from collections.abc import Callable
from typing import NamedTuple

from .by_name import by_name
from .generation_settings import CHANGE, KEEP


class Keyword(NamedTuple):
    """What becomes of a keyword that is none of ours.

    Attributes:
        use: what to write instead: the second half of an error's sentence.
        fine: values that ask for what happens anyway.
        warns: such a value still gets a `FutureWarning` with `use`.
        becomes: the keyword of ours that it acts as.
        convert: its value -> that keyword's; None leaves the keyword out.
        old: passing it gets a `FutureWarning` that names the keyword it acts as.
    """

    use: str
    fine: tuple[object, ...] = (None,)
    warns: bool = False
    becomes: str = ""
    convert: Callable[[object], object] = lambda value: value
    old: bool = False


_INIT = (
    "a model holds no params here; write\n"
    "    model, params = {cls}.from_pretrained(name)\n"
    "or, from scratch,\n"
    "    model = {cls}(config); params = model.init_params(jax.random.key(0))"
)
_KERNELS = (
    "kernels of the Hub are code, which is never fetched; attn_implementation= chooses among ours"
)

_OF_CALLS = {
    "device": Keyword('give device_map="cuda:1" to a load, or mesh='),
    "local_rank": Keyword("call fs.initialize() once in each process, and give mesh="),
    "offload_state_dict": Keyword(
        "offload_state_dict has no effect: a load streams, and holds no whole checkpoint; leave it "
        "out",
        (None, True, False),
        warns=True,
    ),
    "experts_implementation": Keyword("no model here has experts; leave it out"),
    "fusion_config": Keyword("XLA fuses by itself; leave it out"),
    "use_kernels allow_all_kernels": Keyword(_KERNELS, (None, False)),
    "kernel_config": Keyword(_KERNELS),
    "torch_dtype": Keyword("it is the old name of param_dtype", becomes="param_dtype", old=True),
    "use_auth_token": Keyword("it is the old name of token", becomes="token", old=True),
    "gradient_checkpointing": Keyword(
        "it is remat",
        (None, False),
        becomes="remat",
        convert=lambda on: "full" if on is True else on,
    ),
    "use_flash_attention_2": Keyword(
        "it is attn_implementation",
        (None, False),
        becomes="attn_implementation",
        convert=lambda on: "flash" if on is True else on,
        old=True,
    ),
    "resume_download": Keyword(
        "resume_download is ignored: downloads always go on where they stopped; leave it out",
        (None, True, False),
        warns=True,
    ),
    "low_cpu_mem_usage": Keyword(
        "low_cpu_mem_usage is what every load does; leave it out",
        (None, True, False),
        warns=True,
    ),
    "disable_mmap": Keyword("files are read, never mapped; leave it out", (None, True)),
    "_do_init input_shape": Keyword(_INIT, ()),
    "seed": Keyword(
        "a key is given where something is drawn: {cls}.from_pretrained(name, "
        "key=jax.random.key(0)) for leaves that the checkpoint does not have, "
        "model.init_params(jax.random.key(0)) for all",
        (),
    ),
    "prng_key": Keyword("it is key=jax.random.key(0)", (None,)),
    "params": Keyword(
        "give state_dict=: a tree of params, or {PyTorch name: array}, used instead of the saved "
        "weights; after the load params are a value of their own: model.apply({'params': params}"
        ", ...)"
    ),
    "abstract_init": Keyword("model.abstract_params() gives shapes without memory"),
    "module": Keyword("the model is the module: model.apply({'params': params}, ...)"),
    "train training dropout_rng deterministic": Keyword(
        "it belongs to the call: model.apply({'params': params}, ids, deterministic=False, "
        "rngs={'dropout': key}) for training"
    ),
    "trust_remote_code": Keyword(
        "no code of a repository is ever run; a class of your own is found by its config's "
        "model_type after fm.register_for_auto_class",
        (None, False),
    ),
    "code_revision custom_pipelines auto_map": Keyword(
        "no code of a repository is ever run; leave it out"
    ),
    "_from_auto _from_pipeline _configuration_file": Keyword(
        "is private to Transformers; leave it out"
    ),
    "_fast_init": Keyword("nothing is initialised that is loaded; leave it out", (None, True)),
    "_commit_hash": Keyword("give the commit as revision="),
    "_attn_implementation": Keyword("give attn_implementation="),
    "mirror": Keyword("set HF_ENDPOINT in the environment"),
    "tqdm_class": Keyword("progress=False shows no bar"),
    "return_unused_kwargs": Keyword(
        "a keyword that is of no use raises, so that none is left over; leave it out",
        (None, False),
    ),
    "architectures model_type transformers_version": Keyword(
        "the class that is called decides it; leave it out"
    ),
}

CONFIGURED = {
    "use_cache": Keyword(
        "a forward pass keeps a cache where it is given one, cache=model.init_cache(...), and "
        "generate always does; leave it out"
    ),
    "return_dict": Keyword("outputs are always named; out.to_tuple() gives a tuple", (None, True)),
    "torchscript": Keyword(
        "fm.serving.export(model, params, folder) writes programs; leave it out", (None, False)
    ),
    "tf_legacy_loss": Keyword(
        "fm.training.loss(..., convention='tf') is the loss that TensorFlow's classes compute "
        "without it",
        (None, False),
    ),
    "use_bfloat16": Keyword("give dtype=jnp.bfloat16", (None, False)),
    "output_past": Keyword("give cache=model.init_cache(...) to the call"),
    "chunk_size_feed_forward": Keyword(
        "the MLP is not cut into chunks; the result would be the same", (None, 0)
    ),
    "pretraining_tp": Keyword("kernels are not cut; the result would be the same", (None, 1)),
}

_OURS = (
    "decoder_start_token_id do_sample forced_bos_token_id forced_eos_token_id max_length "
    "max_new_tokens temperature top_k top_p "
    "assistant_model forced_decoder_ids generation_kwargs logits_processor stopping_criteria "
    "streamer tokenizer"
)
"""Settings that `generate` has, and arguments of Transformers' `generate`."""

GENERATION = {*CHANGE, *KEEP, *_OURS.split()} - {
    "output_attentions",
    "output_hidden_states",
    "use_cache",
}
"""Settings of generation in Transformers 4.53 and 5.23; a load takes none of them."""

KEYWORDS = by_name(
    {
        **_OF_CALLS,
        **CONFIGURED,
        **dict.fromkeys(
            sorted(GENERATION),
            Keyword(
                "it belongs to generation: model.generate(params, ids, {name}=...), or "
                "generation_config=fm.GenerationConfig(...) to keep it with the model"
            ),
        ),
    }
)

NOTES = frozenset(
    "finetuning_task language prefix problem_type sep_token_id task_specific_params "
    "tokenizer_class".split()
)
"""Keys of a configuration that no forward pass reads and everybody keeps: written into
`config.json`."""
