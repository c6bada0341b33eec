"""Every class of every family against PyTorch Transformers: names, outputs, gradients, decoding.

`tests/families` says what is asked, and `scripts/goldens/models/make_family_goldens.py`
asked the reference.
"""

import _families as families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from _weights import uniform, weight, weights
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels.core import outputs
from flaxmodels.params.save.tensor_specs import tensor_specs
from flaxmodels.params.tree.naming import TORCH

LOOP = {"scan_layers": False, "attn_implementation": "eager"}
SCAN = {"scan_layers": True, "attn_implementation": "sdpa"}
RUNS = {"loop": LOOP, "scan": SCAN}
TABLES = [families.load(name) for name in families.names()]
EACH = [(t.model_type,) for t in TABLES]


def run(model, params, arguments, **options):
    def forward(params, arguments):
        return model.apply({"params": params}, **arguments, **options)

    return jax.jit(forward)(params, arguments)


def test_the_rule_of_weights_is_what_it_was():
    """The goldens hang on it: they hold no weights."""
    drawn = [weight("a.weight", (2, 3))[0, 0], *weight("norm.weight", (2,)), *uniform("x", (2,))]
    was = [0.32799991965293884, 0.9965962767601013, 0.7500054836273193]
    assert [float(x) for x in drawn] == [*was, 0.21449589729309082, 0.5357834100723267]


def test_few_families_stand_for_the_others():
    """Each takes 10 to 20 s of CPU time of the default run, and a family that does not 2 to 4."""
    kinds = [table.stands_for for table in TABLES if table.stands_for]
    assert len({*kinds}) == len(kinds) <= 16


def _backbone_by_default(pair):
    """Scanned, which is half of a loop to compile; of families that stand for a kind of layer
    looped, since heads and variants are scanned."""
    return pair[1] == ("loop" if reference.stands(pair) else "scan")


# --- names and shapes: nothing is compiled ---

EVERY_CLASS = [(t.model_type, name) for t in TABLES for name in [*t.classes, *t.variants]]


HEADS = [(t.model_type, n) for t in TABLES for n in t.classes if n not in (t.bare, t.main)]
VARIANTS = [(t.model_type, name) for t in TABLES for name in t.variants]
_first_of_its_head = reference.one_of_each_head(HEADS)


def _saved_by_default(pair):
    """Bare models, and of families that stand for a kind of layer the language model and what else
    the default run loads for its numbers."""
    table = families.load(pair[0])
    main = pair[1] == table.main and reference.stands(pair)
    variant = pair[1] in table.variants and reference.variant_of_layers(pair)
    return pair[1] == table.bare or main or variant or _first_of_its_head(pair)


@pytest.mark.parametrize(
    ("family", "name"), reference.params(EVERY_CLASS, by_default=_saved_by_default)
)
def test_a_checkpoint_is_loaded_and_saved_again_tensor_by_tensor(family, name, tmp_path):
    """Names, shapes and numbers: what is read into a leaf is written as it was."""
    it = reference.load(family)
    loaded = SCAN
    if name == it.table.bare:  # as the test of the backbone has it
        loaded = next(RUNS[how] for how in RUNS if _backbone_by_default((family, how)))
    model, params = it.load(name, **loaded)
    model.save_pretrained(params, tmp_path, progress=False)
    written, expected = load_file(tmp_path / "model.safetensors"), it.entry(name)["tensors"]
    assert {key: list(array.shape) for key, array in written.items()} == expected
    for key, array in weights(expected, it.table.same).items():
        if not key.endswith(it.table.computed):
            np.testing.assert_array_equal(written[key], array, key)
    if name == it.table.bare:
        for key in (key for key in it.arrays if key.startswith("computed.")):
            table = written[key.removeprefix("computed.")]
            np.testing.assert_allclose(table, it.arrays[key], atol=1e-6)
    again = model.config_class.from_pretrained(tmp_path)
    assert reference.fields(again) == reference.fields(model.config)


NAMED = [pair for pair in EVERY_CLASS if not _saved_by_default(pair)]


_one_of_its_family = reference.one_of_each_family(
    pair for pair in NAMED if reference.is_class(pair) and families.load(pair[0]).main != pair[1]
)


def _named_by_default(pair):
    """Language models, one other head of each family, and all of those that stand for a kind."""
    main = pair[1] == families.load(pair[0]).main
    return main or reference.stands(pair) or _one_of_its_family(pair)


@pytest.mark.parametrize(("family", "name"), reference.params(NAMED, by_default=_named_by_default))
def test_names_and_shapes_are_those_of_the_reference(family, name):
    """Of what the default run does not load: language models and heads that other families have
    too, and what is tied or not."""
    it = reference.load(family)
    cls, entry = it.cls(name), it.entry(name)
    model = cls(cls.config_class.from_dict(entry["config"]), scan_layers=len(name) % 2 == 1)
    template = model.abstract_params()
    specs = tensor_specs(template, template, model.naming, TORCH)
    assert {spec.name: list(spec.shape) for spec in specs} == entry["tensors"]


@pytest.mark.parametrize("family", reference.params(EACH))
def test_auto_classes_find_the_classes(family):
    for name, auto in reference.load(family).table.classes.items():
        if auto is not None:
            assert getattr(fm, auto).class_for(family) is getattr(fm, name)


@pytest.mark.parametrize(("family", "name"), reference.params(VARIANTS))
def test_a_config_says_the_same_in_both_generations_of_keys(family, name):
    """The keys that the table gives, which may be those of the Hub, and those that 5.23 wrote."""
    it = reference.load(family)
    config = it.cls(name).config_class
    given = config.from_dict(it.table.config_of(it.table.main) | it.table.variants[name])
    written = config.from_dict(it.entry(name)["config"])
    assert reference.fields(given) == reference.fields(written)


# --- outputs ---


EACH_RUN = [(t.model_type, how) for t in TABLES for how in RUNS]


@pytest.mark.parametrize(
    ("family", "how"), reference.params(EACH_RUN, by_default=_backbone_by_default)
)
def test_the_backbone_is_that_of_the_reference(family, how):
    """Padded; scanned, of families that stand for a kind, the tokens of the padded row alone. The
    reference's own outputs of these tokens are equal, padded or not."""
    it = reference.load(family)
    alone = how == "scan" and it.table.stands_for
    name, which = it.table.bare, "whole" if alone else "padded"
    model, params = it.load(name, **RUNS[how])
    options = {"output_hidden_states": True, "output_attentions": how == "loop"}
    out = run(model, params, it.inputs(name, which), **options)
    leave = ("attentions", "encoder_att", "decoder_att", "cross_att")
    it.check(name, out, which, leave=" " if how == "loop" else leave)


GIVEN = [pair for pair in EVERY_CLASS if pair[1] != families.load(pair[0]).bare]


def _given_by_default(triple):
    """Scanned: a head that no family before has, a variant, and logits that are not compared with
    their gradients."""
    *pair, how = triple
    table = families.load(pair[0])
    if pair[1] == table.main:
        return how == "scan" and pair[0] in ("albert", "gte")
    variant = pair[1] in table.variants and reference.variant_of_layers(pair)
    return how == "scan" and (variant or _first_of_its_head(tuple(pair)))


@pytest.mark.parametrize(
    ("family", "name", "how"),
    reference.params(
        [(*pair, how) for pair in GIVEN for how in RUNS], by_default=_given_by_default
    ),
)
def test_heads_and_variants_are_those_of_the_reference(family, name, how):
    it = reference.load(family)
    model, params = it.load(name, **RUNS[how])
    for which in it.given(name):
        it.check(name, run(model, params, it.inputs(name, which)), which)


DIFFERENTIATED_BY = {
    **{"gpt_neo": "gpt2", "roberta": "bert", "llama": "training/test_torch_steps.py"},
    **{"albert": "bert", "gte": "bert", "opt": "gpt2", "falcon": "gpt2", "t5": "longt5"},
}
"""Families whose layers have the gradients of another's, or whose steps of training are compared
with PyTorch's; their logits are those of the decoding, or are compared with the heads."""


def _differentiates_by_default(pair):
    how = "loop" if pair[0] in ("bert", "longt5") else "scan"  # the sooner compiled
    return reference.stands(pair) and pair[0] not in DIFFERENTIATED_BY and pair[1] == how


BESIDE_LOGITS = ("encoder_", "decoder_", "cross_")
"""Outputs of a model that is the family's only one."""


@pytest.mark.parametrize(
    ("family", "how"),
    reference.params(EACH_RUN, by_default=_differentiates_by_default),
)
def test_logits_and_gradients_are_those_of_the_reference(family, how):
    it = reference.load(family)
    name = it.table.main
    model, params = it.load(name, **RUNS[how])
    inputs = it.inputs(name)

    @jax.jit
    def gradient(params):
        def loss(params):
            out = model.apply({"params": params}, **inputs)
            cotangent = uniform("cotangent", out.logits.shape)
            mask = inputs.get("decoder_attention_mask", inputs["attention_mask"])
            return jnp.sum(out.logits * cotangent * mask[..., None]), out

        return jax.grad(loss, has_aux=True)(params)

    tree, out = gradient(params)
    it.check(name, out, leave=BESIDE_LOGITS)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))
    found = reference.tensors(model, tree)
    learned = {key for key, array in found.items() if array.any()}
    learned -= {key for key in found if key.endswith(it.table.computed)}
    assert learned == it.golden["gradients"].keys()
    for key, (norm, product) in it.golden["gradients"].items():
        array = found[key].astype(np.float64)
        along = weight(f"projection.{key}", array.shape)
        got = [np.linalg.norm(array), (array * along).sum()]
        np.testing.assert_allclose(got, [norm, product], atol=1e-3 * max(1, norm), err_msg=key)


# --- decoding ---

GENERATING = [(t.model_type,) for t in TABLES if t.generates]
GENERATING_RUNS = [(*pair, how) for pair in GENERATING for how in RUNS]


_in_turn = reference.in_turn(GENERATING_RUNS, RUNS, 1)


def _decodes_by_default(triple):
    """In turn, but for Gemma 3: to trace eight layers twice takes long, and GPT-Neo's windows are
    looped."""
    return triple[1] == "scan" if triple[0] == "gemma3_text" else _in_turn(triple)


def _generates_by_default(pair):
    """Whether the default run decodes a family looped: then it generates scanned. BERT's scanned
    layers are RoBERTa's."""
    return pair[0] != "bert" and _decodes_by_default((*pair, "loop"))


@pytest.mark.parametrize(
    ("family", "how"), reference.params(GENERATING_RUNS, by_default=_decodes_by_default)
)
def test_cached_decoding_is_the_full_pass_of_the_reference(family, how):
    it = reference.load(family)
    name = it.table.main
    model, params = it.load(name, **RUNS[how])
    half = "decoder_" if it.table.decodes else ""
    arguments = it.inputs(name)
    encoded = {key: arguments.pop(key) for key in [*arguments] if not key.startswith(half)}
    rows, length = arguments[f"{half}input_ids"].shape

    @jax.jit
    def step(params, cache, arguments):
        out = model.apply({"params": params}, **arguments, cache=cache)
        return out.logits, out.cache

    cache, logits = model.init_cache(rows, length + 3), []
    for part in [slice(0, 5), *(slice(t, t + 1) for t in range(5, length))]:
        now = {key: value[:, part] for key, value in arguments.items()}
        new, cache = step(params, cache, now | encoded)
        logits.append(new)
        encoded = {}  # the cache has seen it
    whole = outputs.LogitsOutput(logits=jnp.concatenate(logits, 1))
    it.check(name, whole, leave=BESIDE_LOGITS)


@pytest.mark.parametrize("family", reference.params(GENERATING, by_default=_generates_by_default))
def test_greedy_tokens_are_those_of_the_reference(family):
    it = reference.load(family)
    name = it.table.generating or it.table.main
    model, params = it.load(name, **SCAN)
    inputs = it.inputs(name, "whole" if it.table.encodes else "padded")
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    first, steps = (0, 20) if it.table.decodes else (ids.shape[1], len(it.golden["generated"][0]))
    settings = {"max_new_tokens": steps, "do_sample": False, "eos_token_id": (), "pad_token_id": 0}
    out = model.generate(params, ids, mask, **settings)
    np.testing.assert_array_equal(out.sequences[:, first:], it.golden["generated"])


CONTINUED = [pair for pair in GENERATING if "continued" in reference.load(*pair).golden]


@pytest.mark.parametrize(
    "family", reference.params(CONTINUED, by_default=lambda pair: pair == CONTINUED[0])
)
def test_what_a_decoder_has_said_goes_on_as_in_the_reference(family):
    """With its start token put before it or not, with padding on the left, and on the right, which
    is moved to the left."""
    it = reference.load(family)
    model, params = it.load(it.table.generating or it.table.main, **SCAN)
    given = {key: it.inputs(it.table.main)[key] for key in ("input_ids", "attention_mask")}
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": (), "pad_token_id": 0}
    plain, padded = it.golden["continued"]
    for entry in (plain, padded):
        out = model.generate(params, **given, **settings, **entry["inputs"])
        np.testing.assert_array_equal(out.sequences, entry["sequences"])
    streamed = [*model.stream(params, **given, **settings, **plain["inputs"])]
    np.testing.assert_array_equal(np.stack(streamed, 1), np.array(plain["sequences"])[:, -6:])
    right = {key: [rows[0], rows[1][2:] + rows[1][:2]] for key, rows in padded["inputs"].items()}
    out = model.generate(params, **given, **settings, **right)
    np.testing.assert_array_equal(out.sequences[:, -6:], np.array(padded["sequences"])[:, -6:])
