"""D9, D29, D32: what a forward pass refuses, with the form that it expects, in every family."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import applied, params_of, tiny_llama

import flaxmodels as fm
from flaxmodels import blocks
from flaxmodels import params as fp

V, D, POSITIONS, TYPES = 24, 8, 12, 3
SIZES = {"vocab_size": V, "num_attention_heads": 2, "num_hidden_layers": 1, "hidden_size": D}
SIZES |= {"max_position_embeddings": POSITIONS}
MODELS = {
    "bert": fm.BertForMaskedLM(
        fm.BertConfig(**SIZES, intermediate_size=8, type_vocab_size=TYPES, hidden_act="relu")
    ),
    "bert decoder": fm.BertLMHeadModel(
        fm.BertConfig(**SIZES, intermediate_size=8, type_vocab_size=TYPES, is_decoder=True)
    ),
    "gpt2": fm.GPT2LMHeadModel(fm.GPT2Config.from_dict({"model_type": "gpt2", **SIZES})),
    "llama": fm.LlamaForCausalLM(fm.LlamaConfig(**SIZES, intermediate_size=8)),
}
DECODERS = [name for name, model in MODELS.items() if model.can_generate()]
TABLES = [name for name, model in MODELS.items() if model.config.position_limit]
IDS = np.arange(1, 11, dtype="int32").reshape(2, 5)
ONES = np.ones((2, 5), "int32")
each = pytest.mark.parametrize("family", MODELS)


@functools.cache
def params(family):
    return params_of(MODELS[family])


def call(family, *args, **kwargs):
    """What a pass puts out; values of its arguments are known."""
    return applied(MODELS[family], params(family), *args, **kwargs)


def calls(family, *each):
    """The logits of several passes, by one program."""
    model = MODELS[family]
    run = lambda p: [model.apply({"params": p}, IDS, **given).logits for given in each]  # noqa: E731
    return jax.jit(run)(params(family))


def shaped(family, *args, **kwargs):
    """The shape of the logits, in a trace: no value is known."""
    model = MODELS[family]
    run = lambda p, args, kwargs: model.apply({"params": p}, *args, **kwargs).logits  # noqa: E731
    return jax.eval_shape(run, model.abstract_params(), args, kwargs).shape


SHAPES = {
    "ids [T]": ((IDS[0],), {}, r"input_ids has shape \(5,\): expected \[B, T\].*input_ids\[None\]"),
    "ids [1, B, T]": ((IDS[None],), {}, r"\(1, 2, 5\): expected \[B, T\].*input_ids\[0\]"),
    "a number": ((np.int32(3),), {}, r"input_ids has shape \(\): expected \[B, T\]"),
    "batch 0": ((IDS[:0],), {}, r"\(0, 5\): expected \[B, T\], nothing of it empty"),
    "no token": ((IDS[:, :0],), {}, r"\(2, 0\): expected \[B, T\], nothing of it empty"),
    "nothing": ((), {}, "either input_ids or inputs_embeds"),
    "both": ((IDS,), {"inputs_embeds": np.ones((2, 5, D), "float32")}, "and not both"),
    "vectors [T, D]": ((), {"inputs_embeds": np.ones((5, D), "float32")}, rf"\[B, T, {D}\]"),
    "vectors too wide": ((), {"inputs_embeds": np.ones((2, 5, 9), "float32")}, rf"\[B, T, {D}\]"),
    "mask of another length": (
        (IDS, ONES[:, 1:]),
        {},
        r"\(2, 4\): expected \[2, 5\] or \[2, 5, 5\]",
    ),
    "mask of another batch": ((IDS, np.ones((3, 5))), {}, r"\(3, 5\): expected \[2, 5\]"),
    "mask [T]": ((IDS, ONES[0]), {}, r"attention_mask has shape \(5,\): expected \[2, 5\]"),
    "mask [B, 1, 1, T]": ((IDS, ONES[:, None, None]), {}, "attention_mask has shape"),
    "positions [T]": ((IDS,), {"position_ids": np.arange(5)}, r"position_ids.*expected \[2, 5\]"),
    "positions too few": ((IDS,), {"position_ids": IDS[:, :4]}, r"expected \[2, 5\]"),
}


@pytest.mark.parametrize(("args", "kwargs", "said"), SHAPES.values(), ids=SHAPES)
@each
def test_D29_shapes_are_refused_when_traced(family, args, kwargs, said):
    with pytest.raises(ValueError, match=said):
        shaped(family, *args, **kwargs)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_D29_token_types(family):
    with pytest.raises(ValueError, match=r"token_type_ids has shape \(2, 4\): expected \[2, 5\]"):
        shaped(family, IDS, token_type_ids=IDS[:, :4])
    limit = TYPES if family == "bert" else V
    last = np.full((1, 5), limit - 1)
    known = lambda p: MODELS[family].apply({"params": p}, IDS, token_type_ids=last)  # noqa: E731
    jax.eval_shape(known, MODELS[family].abstract_params())
    with pytest.raises(
        ValueError, match=rf"token_type_ids\[0, 2\] is {limit};.*{limit} token types"
    ):
        call(family, IDS, token_type_ids=np.array([[0, 0, limit, 0, 0]]))


DTYPES = {
    "ids": ((IDS.astype("float32"),), {}, "input_ids must be integers"),
    "one-hot": ((IDS > 3,), {}, "input_ids must be integers"),
    "vectors": ((), {"inputs_embeds": np.ones((2, 5, D), "int32")}, "inputs_embeds must be floats"),
    "positions": ((IDS,), {"position_ids": np.ones((2, 5))}, "position_ids must be integers"),
}


@pytest.mark.parametrize(("args", "kwargs", "said"), DTYPES.values(), ids=DTYPES)
@each
def test_D29_dtypes_are_refused_when_traced(family, args, kwargs, said):
    with pytest.raises(TypeError, match=said):
        shaped(family, *args, **kwargs)


@pytest.mark.parametrize("family", TABLES)
def test_D9_more_tokens_than_positions_are_refused_when_traced(family):
    long = jax.ShapeDtypeStruct((1, POSITIONS + 1), jnp.int32)
    said = f"{POSITIONS + 1} tokens, and the model has {POSITIONS} positions"
    with pytest.raises(ValueError, match=said):
        shaped(family, long)
    with pytest.raises(ValueError, match=said):
        shaped(family, inputs_embeds=jax.ShapeDtypeStruct((1, POSITIONS + 1, D), jnp.float32))
    assert shaped(family, jax.ShapeDtypeStruct((1, POSITIONS), jnp.int32)) == (1, POSITIONS, V)
    assert shaped(family, long, position_ids=long) == (1, POSITIONS + 1, V)


def test_D9_rotary_positions_have_no_end():
    assert shaped("llama", np.ones((1, POSITIONS + 1), "int32")) == (1, POSITIONS + 1, V)
    assert MODELS["llama"].init_cache(1, POSITIONS + 1).mask.shape == (1, POSITIONS + 1)


@pytest.mark.parametrize("family", sorted(set(TABLES) & set(DECODERS)))
def test_D9_a_cache_with_more_slots_than_positions_is_refused(family):
    with pytest.raises(ValueError, match=f"{POSITIONS + 1} slots.*{POSITIONS} positions"):
        MODELS[family].init_cache(1, POSITIONS + 1)


@pytest.mark.parametrize("family", DECODERS)
def test_D9_more_tokens_than_slots_are_refused(family):
    cache = MODELS[family].init_cache(2, 7)
    with pytest.raises(ValueError, match="7 slots, and there are 8 new tokens"):
        shaped(family, np.ones((2, 8), "int32"), cache=cache)
    cache = call(family, IDS, cache=cache).cache
    assert shaped(family, IDS[:, :2], cache=cache) == (2, 2, V)
    with pytest.raises(ValueError, match="7 slots, 5 of them filled, and there are 3 new tokens"):
        call(family, IDS[:, :3], cache=cache)


FORMS = {
    "rows of other lengths": (([[1, 2], [3]],), {}, "input_ids has rows of different lengths"),
    "a masked array": ((np.ma.array(IDS),), {}, "input_ids is a masked array; give its numbers"),
    "a mask of texts": ((IDS, [["1"] * 5] * 2), {}, "attention_mask must be of numbers, got <U1"),
    "a complex mask": ((IDS, ONES * 1j), {}, "attention_mask must be of numbers, got complex128"),
    "a word": ((IDS,), {"deterministic": "no"}, "deterministic is 'no'; expected True or False"),
    "nothing": ((IDS,), {"deterministic": None}, "deterministic is None; expected True or False"),
    "asked by a word": ((IDS,), {"output_attentions": "no"}, "output_attentions is 'no'"),
    "a letter too few": ((IDS,), {"atention_mask": ONES}, r"did you mean attention_mask\?"),
    "a cache, as there": ((IDS,), {"past_key_values": None}, "give cache=model.init_cache"),
    "a mode": ((IDS,), {"train": True}, "deterministic=False, rngs="),
}


@pytest.mark.parametrize(("args", "kwargs", "said"), FORMS.values(), ids=FORMS)
def test_D29_what_is_no_argument_of_a_pass_is_named(args, kwargs, said):
    for family in ("bert", "llama"):
        model = MODELS[family]
        run = lambda p, model=model: model.apply({"params": p}, *args, **kwargs)  # noqa: E731
        with pytest.raises((TypeError, ValueError), match=said):
            jax.eval_shape(run, model.abstract_params())


def test_masks_to_add_are_made_of_numbers():
    for make in (lambda x: blocks.extended_attention_mask(x, (2, 5)), blocks.invert_attention_mask):
        with pytest.raises(TypeError, match="attention_mask is None; expected an array"):
            make(None)
        with pytest.raises(TypeError, match="attention_mask must be of numbers, got <U1"):
            make([["1"] * 5] * 2)
    for make in (blocks.extended_attention_mask, blocks.invert_attention_mask):
        shape = () if make is blocks.invert_attention_mask else ((2, 5),)
        for dtype in ("int32", int, bool, "float33", object):
            with pytest.raises(ValueError, match="unknown dtype .*; known: .*float32"):
                make(ONES, *shape, dtype=dtype)


@pytest.mark.parametrize("name", [None, "other"])
@each
def test_what_is_dropped_needs_a_key(family, name):
    model, rngs = MODELS[family], name and {name: jax.random.key(0)}
    run = lambda p: model.apply({"params": p}, IDS, deterministic=False, rngs=rngs)  # noqa: E731
    if family == "llama":  # which drops nothing
        assert jax.eval_shape(run, model.abstract_params()).logits.shape == (2, 5, V)
        return
    with pytest.raises(ValueError, match="deterministic=False .*give rngs={'dropout': key}"):
        jax.eval_shape(run, model.abstract_params())


class Tensor:
    """What another library's tensor is to NumPy: a dtype of its own, and an array if asked."""

    dtype, shape = "torch.int64", IDS.shape

    def __array__(self, dtype=None, copy=None):
        return IDS


def test_D29_a_tensor_of_another_library_is_what_it_holds():
    model = MODELS["llama"]
    run = lambda p: model.apply({"params": p}, Tensor()).logits  # noqa: E731
    assert jax.eval_shape(run, model.abstract_params()).shape == (2, 5, V)


def test_flags_are_static():
    for name in ("deterministic", "output_hidden_states"):
        with pytest.raises(TypeError, match=f"{name} is traced; it must be static"):
            shaped("llama", IDS, **{name: True})


WRONG_PARAMS = {
    "no params": ({}, ValueError, "params have no model/embed_tokens/embedding: a model takes its"),
    "params alone": (None, ValueError, "params have no model/embed_tokens/embedding"),
    "a list": (
        [],
        TypeError,
        r"LlamaForCausalLM.apply takes {'params': params}, a tree; got a list",
    ),
    "no head": ({"lm_head": {}}, ValueError, "params have no lm_head/kernel"),
    "a word": ({"lm_head": {"kernel": "x"}}, TypeError, "lm_head/kernel is a str; expected an arr"),
    "numbers": ({"lm_head": {"kernel": [[1.0]]}}, TypeError, "lm_head/kernel is a list"),
}


@pytest.mark.parametrize(("change", "kind", "said"), WRONG_PARAMS.values(), ids=WRONG_PARAMS)
def test_params_that_are_not_the_models_are_named(change, kind, said):
    model, own = MODELS["llama"], params("llama")
    variables = {"params": {**own, **change}} if change else own if change is None else change
    with pytest.raises(kind, match=said):
        model.apply(variables, IDS)


def test_params_of_layers_that_are_stacked_or_not_say_so():
    model, own = MODELS["llama"], params("llama")
    with pytest.raises(ValueError, match=r"have no model/layers/0/.*fp.unstack_layers"):
        model.apply({"params": fp.stack_layers(own)}, IDS)
    with pytest.raises(
        ValueError, match=r"model/layers of the params has layers one by one.*fp.st"
    ):
        model.clone(scan_layers=True).apply({"params": own}, IDS)


SIZES_OF_CACHES = [
    ((0, 4), "batch_size is 0; expected at least 1"),
    ((2, -1), "max_length is -1; expected at least 1"),
    ((2, 4.0), "max_length is 4.0; expected a whole number"),
    (("2", 4), "batch_size is '2'; expected a whole number"),
    ((2, 4, "int8"), "unknown dtype 'int8'"),
]


def test_a_cache_of_no_size_is_refused():
    for given, said in SIZES_OF_CACHES:
        with pytest.raises((TypeError, ValueError), match=said):
            MODELS["llama"].init_cache(*given)
    with pytest.raises(TypeError, match="max_length is traced; it must be static"):
        jax.jit(lambda n: MODELS["llama"].init_cache(2, n).index)(3)
    assert (
        MODELS["llama"].init_cache(2, 4, "bf16").entries["full_attention"].keys[0].dtype.name
        == "bfloat16"
    )


@pytest.mark.parametrize("family", DECODERS)
def test_a_cache_of_another_model_or_batch_is_refused(family):
    model = MODELS[family]
    with pytest.raises(ValueError, match="cache is of 3 sequences, and there are 2"):
        shaped(family, IDS, cache=model.init_cache(3, 7))
    with pytest.raises(ValueError, match="1 layers, in one stack; this model has 1: make it with"):
        shaped(family, IDS, cache=model.clone(scan_layers=True).init_cache(2, 7))
    wider = fm.LlamaForCausalLM(tiny_llama(num_hidden_layers=1))
    with pytest.raises(ValueError, match="of another model: it keeps .*key_dim=8.*one .*key_dim=4"):
        shaped(family, IDS, cache=wider.init_cache(2, 7))
    with pytest.raises(TypeError, match="cache is a tuple; expected what init_cache returns"):
        call(family, IDS, cache=((1, 2),))
    with pytest.raises(ValueError, match=r"\[2, 5\]; with a cache it covers the new tokens alone"):
        shaped(family, IDS, np.ones((2, 7)), cache=model.init_cache(2, 7))


def test_a_cache_that_was_cut_or_given_away_is_refused():
    model = MODELS["llama"]
    cache = model.init_cache(2, 7)
    for change, said in (
        ({"mask": cache.mask[:, :5]}, r"2 sequences of 5 slots, and it has keys of 2 of 7"),
        ({"mask": cache.mask[:1, :]}, r"cache is of 1 sequences, and there are 2"),
        ({"index": -1}, r"cache.index is -1: of its 7 slots so many are filled"),
    ):
        with pytest.raises(ValueError, match=said):
            call("llama", IDS, cache=dataclasses.replace(cache, **change))
    jax.tree.map(lambda x: x.delete(), cache.entries)
    with pytest.raises(ValueError, match="memory of the cache was given on to an earlier call"):
        call("llama", IDS, cache=cache)


def test_positions_that_int32_does_not_hold_are_refused():
    with pytest.raises(ValueError, match=r"position_ids\[0, 0\] is 1099511627776; .* in int32"):
        call("llama", IDS, position_ids=np.full((2, 5), 2**40))


def test_an_encoder_has_no_cache():
    with pytest.raises(ValueError, match="a cache is for a decoder; set config.is_decoder"):
        MODELS["bert"].init_cache(2, 7)
    with pytest.raises(ValueError, match="a cache is for a decoder"):
        shaped("bert", IDS, cache=MODELS["bert decoder"].init_cache(2, 7))
    config = fm.Gemma3TextConfig(**SIZES, num_key_value_heads=1, use_bidirectional_attention=True)
    with pytest.raises(ValueError, match="for a decoder; the tokens of this one see those after"):
        fm.Gemma3ForCausalLM(config).init_cache(2, 7)


@pytest.mark.parametrize("bad", [-1, V])
@each
def test_D9_ids_without_a_row_are_refused_where_they_are_known(family, bad):
    ids = IDS.copy()
    ids[1, 3] = bad
    for given in (ids, jnp.asarray(ids), ids.tolist(), ids.astype("int64")):
        with pytest.raises(ValueError, match=rf"input_ids\[1, 3\] is {bad},.*0 to {V - 1}"):
            call(family, given)
    assert shaped(family, ids) == (2, 5, V)


@pytest.mark.parametrize("family", TABLES)
def test_D9_positions_without_a_row_are_refused_where_they_are_known(family):
    said = rf"position_ids\[0, 4\] is {POSITIONS}; there are {POSITIONS} positions"
    with pytest.raises(ValueError, match=said):
        call(family, IDS, position_ids=np.array([[0, 1, 2, 3, POSITIONS]]))
    with pytest.raises(ValueError, match=r"position_ids\[1, 0\] is -1"):
        call(family, IDS, position_ids=np.array([[0, 1, 2, 3, 4], [-1, 0, 1, 2, 3]]))


ADDITIVE = {
    "some": (1 - np.tri(2, 5)) * -1e9,
    "infinite": np.where(np.tri(2, 5), 0.0, -np.inf),
    "of a batch without padding": (1 - np.ones((2, 5))) * -1e9,
    "of pairs": np.where(np.tri(5), 0.0, np.finfo("float32").min)[None],
    "segments": np.array([[1, 1, 2, 2, 3]]),
    "NaN": np.full((2, 5), np.nan),
}


@pytest.mark.parametrize("mask", ADDITIVE.values(), ids=ADDITIVE)
@each
def test_D32_masks_of_other_numbers_are_refused(family, mask):
    for given in (mask, jnp.asarray(mask)):
        with pytest.raises(ValueError, match="attention_mask (holds|is of floats).*give mask == 0"):
            call(family, IDS, given)


@each
def test_D32_a_mask_of_any_dtype_says_the_same(family):
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    forms = [mask, mask.astype(bool), mask.astype("float32"), mask.tolist(), jnp.asarray(mask)]
    forms += [mask[:1], mask[[0, 0]]]
    *same, one, twice = calls(family, *({"attention_mask": form} for form in forms))
    for logits in same:
        np.testing.assert_array_equal(logits, same[0])
    np.testing.assert_array_equal(one, twice)
    assert not np.array_equal(one, same[0])


@pytest.mark.parametrize("family", DECODERS)
def test_D29_logits_to_keep(family):
    first = {0: 0, 2: 3, np.int64(1): 4, 9: 0}
    every, *parts = calls(family, {}, *({"logits_to_keep": kept} for kept in first))
    for got, start in zip(parts, first.values(), strict=True):
        np.testing.assert_allclose(got, every[:, start:], atol=1e-6)
    with pytest.raises(ValueError, match="logits_to_keep .0 for all. is -1; expected at least 0"):
        call(family, IDS, logits_to_keep=-1)
    with pytest.raises(TypeError, match="logits_to_keep .0 for all. is 1.0; expected a whole"):
        call(family, IDS, logits_to_keep=1.0)


CHOICES = {
    "two axes": ((IDS,), {}, r"input_ids has shape \(2, 5\): expected \[B, C, T\]"),
    "none of them": ((np.ones((2, 0, 5), int),), {}, r"\(2, 0, 5\): expected \[B, C, T\]"),
    "another mask": ((IDS[:, None], ONES), {}, r"attention_mask.*expected \[2, 1, T\]"),
    "vectors": ((), {"inputs_embeds": np.ones((2, 5, D))}, r"expected \[B, C, T, D\]"),
}


@pytest.mark.parametrize(("args", "kwargs", "said"), CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize(
    "model",
    [
        fm.BertForMultipleChoice(MODELS["bert"].config),
        fm.GPT2DoubleHeadsModel(MODELS["gpt2"].config),
    ],
    ids=["bert", "gpt2"],
)
def test_D29_choices(model, args, kwargs, said):
    with pytest.raises(ValueError, match=said):
        model.apply({"params": {}}, *args, **kwargs)


def test_D29_the_token_that_a_choice_is_read_off():
    model = fm.GPT2DoubleHeadsModel(MODELS["gpt2"].config)
    variables = {"params": params_of(model)}
    for bad, said in (
        (np.array([[5], [0]]), r"mc_token_ids\[0, 0\] is 5.*0 to 4"),
        (np.array([5, 0]), r"mc_token_ids has shape \(2,\): expected \[2, 1\]"),
    ):
        with pytest.raises(ValueError, match=said):
            model.apply(variables, IDS[:, None], mc_token_ids=bad)


def test_bert_as_decoder_needs_its_config_to_say_so():
    with pytest.raises(fm.ConfigError, match="give is_decoder=True, or use BertForMaskedLM"):
        fm.BertLMHeadModel(MODELS["bert"].config)


def test_a_symbolic_length_is_exported():
    model = MODELS["gpt2"]
    scope = jax.export.SymbolicScope()
    ids = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, t", scope=scope), jnp.int32)
    run = jax.jit(lambda params, ids: model.apply({"params": params}, ids).logits)
    exported = jax.export.export(run)(model.abstract_params(), ids)
    np.testing.assert_allclose(
        exported.call(params("gpt2"), IDS), call("gpt2", IDS).logits, atol=1e-5
    )


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (
            lambda: fm.BertModel(fm.BertConfig(), add_pooling_layer="no"),
            "add_pooling_layer is 'no'",
        ),
        (lambda: call("llama", IDS, logits_to_keep=True), "logits_to_keep .0 for all. is True"),
        (
            lambda: MODELS["bert"].warn_if_padding_and_no_attention_mask([[1], [1, 2]]),
            "input_ids has rows of different lengths",
        ),
        (lambda: MODELS["bert"].warn_if_padding_and_no_attention_mask(3), "expected .B, T."),
        (
            lambda: fm.BertForMultipleChoice(MODELS["bert"].config).init(
                jax.random.key(0), [[[1], [1, 2]]]
            ),
            "input_ids has rows of different lengths",
        ),
        (lambda: fm.AutoConfig.register("mine", "Mine"), "'Mine' is no class of configurations"),
        (lambda: fm.AutoConfig.register("llama", fm.LlamaModel), "no class of configurations"),
        (
            lambda: MODELS["gpt2"].gradient_checkpointing_enable(
                gradient_checkpointing_kwargs=["full"]
            ),
            "expected a mapping of policy and prevent_cse",
        ),
        (
            lambda: MODELS["gpt2"].gradient_checkpointing_enable(
                "dots_saveable", gradient_checkpointing_kwargs={"policy": "full"}
            ),
            "policy: given twice",
        ),
    ],
)
def test_what_is_none_of_the_kind_is_refused_by_its_name(refused, message):
    with pytest.raises((TypeError, ValueError), match=message):
        refused()
