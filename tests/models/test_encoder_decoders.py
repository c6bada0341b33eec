"""Encoder-decoders: their two halves, their arguments, and what decoder inputs are made of; numbers
are in `test_reference.py`."""

import functools

import jax
import numpy as np
import pytest
from _drawn import applied, params_of

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.models.encoder_decoders import inputs

SMALL = {
    "vocab_size": 50,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 20,
    "max_position_embeddings": 12,
}
CONFIG = fm.BartConfig(**SMALL)
SIZES = [name for name in CONFIG.names() if name.endswith(("_layers", "_heads", "_ffn_dim"))]
MODEL = fm.BartForConditionalGeneration(CONFIG)
IDS = np.array([[5, 6, 7, 8, 2], [9, 8, 2, 1, 1]])
MASK = (IDS != 1).astype(np.int32)
DECODED = np.array([[2, 11, 12], [2, 13, 14]])


@functools.cache
def params():
    return params_of(MODEL)


def run(*args, model=MODEL, method=None, **given):
    return applied(model, params(), *args, **given, method=method)


def shapes(*args, cls=fm.BartForConditionalGeneration, **given):
    """Traces a call, and computes nothing."""
    return jax.eval_shape(lambda: cls(CONFIG).init(jax.random.key(0), *args, **given))


def test_encode_and_decode_are_the_two_halves_of_a_call():

    def decode(variables, given, **options):
        return MODEL.apply(variables, DECODED, given, MASK, method="decode", **options)

    def whole(variables, given):
        return MODEL.apply(variables, None, MASK, DECODED, encoder_outputs=given)

    @jax.jit
    def halves(variables):
        encoded = MODEL.apply(variables, IDS, MASK, method="encode")
        outs = decode(variables, encoded), whole(variables, encoded)
        return encoded, outs, decode(variables, encoded, logits_to_keep=1)

    both = run(IDS, MASK, DECODED)
    encoded, outs, last = halves({"params": params()})
    np.testing.assert_array_equal(encoded.last_hidden_state, both.encoder_last_hidden_state)
    for out in outs:
        np.testing.assert_array_equal(out.logits, both.logits)
    np.testing.assert_array_equal(last.logits, both.logits[:, -1:])
    for call in (decode, whole):
        given = (encoded, encoded.to_tuple(), encoded.last_hidden_state)
        programs = {str(jax.make_jaxpr(call)({"params": params()}, form)) for form in given}
        assert len(programs) == 1


@pytest.mark.parametrize("scan", [pytest.param(False, marks=pytest.mark.soak), True])
def test_a_cache_keeps_the_encoder_for_the_calls_that_follow(scan):
    model = MODEL.clone(scan_layers=scan)
    params = params_of(model)

    def decode(*args, **given):
        return applied(model, params, *args, **given, method="decode")

    encoded = applied(model, params, IDS, MASK, method="encode")
    full = decode(DECODED, encoded, MASK)
    first = decode(DECODED[:, :2], encoded, MASK, cache=model.init_cache(2, 4))
    rest = decode(DECODED[:, 2:], cache=first.cache)
    logits = np.concatenate([first.logits, rest.logits], axis=1)
    np.testing.assert_allclose(logits, full.logits, atol=1e-5)
    both = applied(model, params, decoder_input_ids=DECODED[:, 2:], cache=first.cache)
    np.testing.assert_array_equal(both.logits, rest.logits)
    assert both.encoder_last_hidden_state is None


def test_the_names_of_outputs_are_those_of_the_reference():
    model = MODEL.clone(config=CONFIG.replace(encoder_layers=2))
    asked = {"output_hidden_states": True, "output_attentions": True}
    run = lambda p: model.apply({"params": p}, IDS, MASK, DECODED, **asked)  # noqa: E731
    out = jax.eval_shape(run, model.abstract_params())
    assert out.keys() == (
        "logits",
        "decoder_hidden_states",
        "decoder_attentions",
        "cross_attentions",
        "encoder_last_hidden_state",
        "encoder_hidden_states",
        "encoder_attentions",
    )
    assert [len(out[name]) for name in out.keys()[1:4]] == [2, 1, 1]
    assert len(out.encoder_hidden_states) == 3 and len(out.encoder_attentions) == 2
    assert out.cross_attentions[0].shape == (2, 4, 3, 5)


def test_decoder_inputs_are_made_of_labels_and_of_input_ids():
    labels = np.array([[7, 8, 2], [9, 2, -100]])
    shifted = MODEL.prepare_decoder_input_ids_from_labels(labels)
    np.testing.assert_array_equal(shifted, [[2, 7, 8], [2, 9, 2]])
    np.testing.assert_array_equal(inputs.wrapped(labels, 1), [[2, 7, 8], [2, 9, 2]])
    np.testing.assert_array_equal(inputs.wrapped([[7, 40], [41, 1]], 1), [[40, 7], [41, 41]])

    @jax.jit
    def logits(p):
        given = (IDS, MASK), (IDS, MASK, MODEL.shifted_right(IDS))
        return [MODEL.apply({"params": p}, *args).logits for args in given]

    np.testing.assert_array_equal(*logits(params()))


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"),
    [
        pytest.param("Bart", 4, 4, marks=pytest.mark.soak),
        ("Marian", 4, 1),
        pytest.param("Pegasus", 4, 1, marks=pytest.mark.soak),
        ("BlenderbotSmall", 4, 1),
    ],
)
def test_vectors_in_the_place_of_tokens_are_scaled_as_in_the_reference(name, encoder, decoder):
    """That is, by what they have to be multiplied to give what the tokens do. In the reference the
    decoders of Marian and Pegasus scale vectors too, that of Blenderbot Small no tokens either."""
    fields = {key: getattr(CONFIG, key) for key in ("vocab_size", "d_model", *SIZES)}
    config = getattr(fm, f"{name}Config")(**fields, scale_embedding=True, pad_token_id=1)
    model = getattr(fm, f"{name}Model")(config)
    params = params_of(model)
    table = params["shared"]["embedding"]
    vectors = {"inputs_embeds": encoder * table[IDS]}
    vectors |= {"decoder_inputs_embeds": decoder * table[DECODED]}

    plain = model.clone(config=config.replace(scale_embedding=False))

    @jax.jit
    def states(params):
        by_ids = {"input_ids": IDS, "decoder_input_ids": DECODED}
        outs = [model.apply({"params": params}, **given) for given in (by_ids, vectors)]
        if name == "BlenderbotSmall":
            encoded = plain.apply(
                {"params": params}, inputs_embeds=vectors["inputs_embeds"], method="encode"
            )
            decoded = {"encoder_outputs": encoded, "decoder_input_ids": DECODED}
            outs.append(plain.apply({"params": params}, **decoded))
        return [out.last_hidden_state for out in outs]

    by_ids, *others = states(params)
    for other in others:
        np.testing.assert_allclose(other, by_ids, atol=1e-5)


ENCODED = np.zeros((2, 5, 16), np.float32)
WRONG = {
    "labels": ({"input_ids": IDS, "labels": IDS}, TypeError, "labels: models compute no loss"),
    "labels-and-decoder-inputs": (
        {"input_ids": IDS, "decoder_input_ids": DECODED, "labels": DECODED},
        TypeError,
        "labels: models compute no loss",
    ),
    "misspelt": ({"input_ids": IDS, "decoder_ids": IDS}, TypeError, "argument 'decoder_ids'"),
    "nothing-to-decode": ({"inputs_embeds": ENCODED}, ValueError, "give decoder_input_ids"),
    "nothing-at-all": ({"decoder_input_ids": IDS}, ValueError, "give either input_ids or"),
    "twice-encoded": (
        {"input_ids": IDS, "encoder_outputs": ENCODED, "decoder_input_ids": DECODED},
        ValueError,
        "input_ids is to be encoded, and the encoder's outputs are given",
    ),
    "no-states": (
        {"encoder_outputs": "states", "decoder_input_ids": DECODED},
        TypeError,
        "encoder_outputs is a str",
    ),
    "other-batch": (
        {"encoder_outputs": ENCODED[:1], "decoder_input_ids": DECODED},
        ValueError,
        r"expected \[2, S, ",
    ),
    "other-width": (
        {"encoder_outputs": ENCODED[..., 1:], "decoder_input_ids": DECODED},
        ValueError,
        r"expected \[2, S, ",
    ),
    "past-positions": (
        {"input_ids": IDS, "decoder_input_ids": np.ones((2, 13), int)},
        ValueError,
        "decoder: 13 tokens, and the model has 12 positions",
    ),
    "past-positions-of-the-encoder": (
        {"input_ids": np.ones((2, 13), int), "decoder_input_ids": DECODED},
        ValueError,
        "13 tokens, and the model has 12 positions",
    ),
    "one-row": (
        {"input_ids": IDS, "decoder_input_ids": DECODED[0]},
        ValueError,
        "decoder: input_ids has shape",
    ),
    "unknown-token": (
        {"input_ids": IDS, "decoder_input_ids": DECODED + 48},
        ValueError,
        r"decoder: input_ids\[0, 0\] is 50",
    ),
}


@pytest.mark.parametrize(("given", "kind", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused(given, kind, message):
    with pytest.raises(kind, match=message):
        shapes(**given)


def test_decoding_needs_an_encoder():
    with pytest.raises(ValueError, match="give encoder_outputs, or a cache that has seen them"):
        run(DECODED, method="decode")
    with pytest.raises(ValueError, match="give encoder_outputs, or a cache that has seen them"):
        run(DECODED, cache=MODEL.init_cache(2, 4), method="decode")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([[5, 6, 7], [5, 2, 6]]), r"have \[0, 1\] end-of-sequence tokens"),
        (np.array([[2, 6, 2], [5, 2, 6]]), r"have \[2, 1\] end-of-sequence tokens"),
        (None, "give input_ids"),
    ],
)
def test_a_sequence_is_classified_by_its_last_eos(ids, message):
    with pytest.raises(ValueError, match=message):
        shapes(ids, cls=fm.BartForSequenceClassification)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder_attention_heads": 3}, "d_model = 16 is not a multiple of decoder_attention_hea"),
        ({"pruned_heads": {0: [1]}}, "pruned_heads is not implemented"),
        ({"activation_function": "sine"}, "activation_function = 'sine' is not implemented"),
    ],
)
def test_configurations_that_cannot_be_honoured(change, message):
    with pytest.raises(fm.ConfigError, match=message):
        CONFIG.replace(**change)


def test_two_vocabularies_are_not_resized_as_one():
    """Whether or not they have as many tokens today."""
    config = fm.MarianConfig(vocab_size=50, d_model=16, share_encoder_decoder_embeddings=False)
    for size in (40, 50):
        model = fm.MarianMTModel(config.replace(decoder_vocab_size=size))
        with pytest.raises(ValueError, match="have vocabularies of their own"):
            model.resize_token_embeddings(model.abstract_params(), 56)


def test_a_decoder_of_its_own_says_so():
    alone = fm.BartForCausalLM(CONFIG)
    assert alone.config.is_decoder and not alone.config.is_encoder_decoder
    assert len(alone.init_cache(1, 4).entries["full_attention"].keys) == 1


# --- generation; tokens of whole families are in test_reference.py ---

GREEDY = {"do_sample": False, "eos_token_id": ()}


def test_generation_counts_the_start_and_forces_the_first_and_the_last_token():
    out = MODEL.generate(params(), IDS, max_length=6, forced_bos_token_id=9, **GREEDY)
    sequences = np.asarray(out.sequences)
    assert sequences.shape == (2, 6)
    np.testing.assert_array_equal(sequences[:, [0, 1, -1]], [[2, 9, 2]] * 2)
    again = MODEL.generate(params(), IDS, MASK, max_new_tokens=5, forced_bos_token_id=9, **GREEDY)
    np.testing.assert_array_equal(sequences, again.sequences)
    other = MODEL.generate(params(), IDS, max_length=2, decoder_start_token_id=7, **GREEDY)
    np.testing.assert_array_equal(other.sequences, [[7, 2]] * 2)


def test_generated_tokens_are_those_of_full_passes():
    out = MODEL.generate(params(), IDS, max_new_tokens=4, forced_eos_token_id=(), **GREEDY)
    logits = run(IDS, MASK, out.sequences[:, :-1]).logits
    np.testing.assert_array_equal(out.sequences[:, 1:], np.argmax(logits, axis=-1))


@pytest.mark.parametrize("sampled", [pytest.param(False, marks=pytest.mark.soak), True])
def test_streamed_tokens_are_those_of_generate(sampled):
    settings = {"max_new_tokens": 4, "forced_bos_token_id": 9, "eos_token_id": ()}
    settings |= {"do_sample": sampled, "key": jax.random.key(3) if sampled else None}
    at_once = MODEL.generate(params(), IDS, **settings).sequences[:, 1:]
    np.testing.assert_array_equal(np.stack([*MODEL.stream(params(), IDS, **settings)], 1), at_once)


def test_what_is_made_of_labels_needs_a_start_token_and_padding():
    for name in ("decoder_start_token_id", "pad_token_id"):
        model = MODEL.clone(config=CONFIG.replace(**{name: None}))
        with pytest.raises(ValueError, match=f"{name} is None"):
            model.prepare_decoder_input_ids_from_labels(DECODED)
        with pytest.raises(ValueError, match=f"{name} is None"):
            jax.eval_shape(lambda model=model: model.init(jax.random.key(0), IDS))


def test_what_the_decoder_has_said_is_continued():
    """A traced program cannot look for the start token, and takes ids as they are."""
    begun = np.concatenate([np.full((2, 1), 2), DECODED[:, 1:]], axis=1)
    settings = {"max_new_tokens": 2, **GREEDY}
    out = MODEL.generate(params(), IDS, decoder_input_ids=DECODED[:, 1:], **settings).sequences
    np.testing.assert_array_equal(out[:, :3], begun)
    for call in (MODEL.generate, jax.jit(lambda *a, **k: MODEL.generate(*a, **k, **settings))):
        options = settings if call == MODEL.generate else {}
        again = call(params(), IDS, decoder_input_ids=begun, **options).sequences
        np.testing.assert_array_equal(again, out)
    with pytest.warns(UserWarning, match="forced_bos_token_id has no effect"):
        forced = MODEL.generate(
            params(), IDS, decoder_input_ids=begun, forced_bos_token_id=9, max_length=4, **GREEDY
        )
    np.testing.assert_array_equal(forced.sequences[:, 3:], [[2], [2]])  # the last, not the first


def test_padding_of_what_the_decoder_has_said_needs_a_mask():
    padded = np.array([[2, 11, 12], [1, 2, 13]])
    with pytest.warns(UserWarning, match="decoder_input_ids look padded with token 1.*decoder_att"):
        MODEL.generate(params(), IDS, decoder_input_ids=padded, max_new_tokens=1)


LONG = np.full((2, 9), 2)
BEGUN = {
    "rows": ({"decoder_input_ids": DECODED[:1]}, "decoder_input_ids has 1 rows, input_ids 2"),
    "one-row": ({"decoder_input_ids": DECODED[0]}, r"decoder_input_ids has shape \(3,\)"),
    "unknown": ({"decoder_input_ids": DECODED + 48}, r"decoder_input_ids\[0, 0\] is 50"),
    "mask": ({"decoder_attention_mask": DECODED}, "is of decoder_input_ids, which are not given"),
    "shape": (
        {"decoder_input_ids": DECODED, "decoder_attention_mask": IDS},
        "decoder_attention_mask has shape",
    ),
    "empty": (
        {"decoder_input_ids": DECODED, "decoder_attention_mask": DECODED * [[1], [0]]},
        "row 1 of decoder_input_ids has no token in decoder_attention_mask",
    ),
    "positions": ({"decoder_input_ids": LONG, "max_new_tokens": 4}, "13; the model has 12"),
    "length": ({"decoder_input_ids": LONG, "max_length": 9}, "9 tokens, and max_length is 9"),
}


@pytest.mark.parametrize(("given", "message"), BEGUN.values(), ids=BEGUN)
def test_what_the_decoder_cannot_have_said(given, message):
    for call in (MODEL.generate, MODEL.stream):
        with pytest.raises(ValueError, match=message):
            call(params(), IDS, **given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"forced_bos_token_id": 50},
            "forced_bos_token_id is 50, and the model has the tokens 0 to",
        ),
        ({"decoder_start_token_id": 61}, "decoder_start_token_id is 61"),
        ({"max_new_tokens": 12}, "1 tokens and 12 new ones are 13; the model has 12 positions"),
    ],
)
def test_settings_that_the_decoder_cannot_follow(settings, message):
    with pytest.raises(ValueError, match=message):
        MODEL.generate(params(), IDS, **settings)


def test_a_decoder_needs_a_token_to_begin_with():
    config = CONFIG.replace(decoder_start_token_id=None, bos_token_id=None)
    with pytest.raises(ValueError, match="give decoder_start_token_id"):
        MODEL.clone(config=config).generate(params(), IDS)
    alone = fm.BartForCausalLM(CONFIG)
    with pytest.raises(TypeError, match="has no encoder: its decoder begins with the prompt"):
        alone.generate({}, IDS, decoder_start_token_id=2)
    with pytest.raises(TypeError, match="decoder_input_ids would have no effect"):
        alone.generate({}, IDS, decoder_input_ids=DECODED)


@pytest.mark.parametrize("equal", [True, False])
def test_tables_apart_are_one_in_old_flax_where_they_are_equal(equal, tmp_path, recwarn):
    model = fm.MBartModel(fm.MBartConfig(**SMALL, tie_word_embeddings=False))
    apart = params_of(model)
    if equal:
        apart["decoder"]["embed_tokens"] = apart["encoder"]["embed_tokens"]
        model.save_pretrained(apart, tmp_path, format="msgpack")
    else:
        with pytest.warns(match="embedding differ, and .* one table, shared/embedding, for both"):
            model.save_pretrained(apart, tmp_path, format="msgpack")
    names = fp.open_checkpoint(tmp_path).tensors.keys()
    tables = {name for name in names if name.endswith("d/embedding")}
    assert tables == ({"shared/embedding"} if equal else set())
    _, again = fm.MBartModel.from_pretrained(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again, apart)


def test_labels_of_another_form_make_no_decoder_inputs():
    for labels, said in [
        (np.ones((2, 3)), r"labels or input_ids are float32 \[2, 3\]: .* integers \[B, T\]"),
        ([1, 2], r"are int32 \[2\]"),
        ([[1], [1, 2]], "labels has rows of different lengths"),
        ("x", "labels must be of numbers, got <U1"),
        (None, "labels is None; expected an array"),
    ]:
        with pytest.raises((TypeError, ValueError), match=said):
            MODEL.prepare_decoder_input_ids_from_labels(labels)


@pytest.mark.parametrize("cls", [fm.BartModel, fm.MBartModel])
def test_no_labels_make_no_decoder_tokens(cls):
    model = cls(cls.config_class(decoder_start_token_id=2))
    assert model.prepare_decoder_input_ids_from_labels(np.zeros((2, 0), int)).shape == (2, 0)
