"""Dimensions that do not divide over a mesh: refused, replicated or padded; and the report."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of, tiny_llama
from jax.sharding import PartitionSpec as P

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs

V = 61
IDS = np.arange(32, dtype="int32").reshape(4, 8) % V
CONFIG = tiny_llama(
    vocab_size=V,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=8,
    num_key_value_heads=2,
    max_position_embeddings=16,
    bos_token_id=None,
    eos_token_id=None,
)
UNEVEN = {"vocab": "pad", "kv_heads": "replicate"}
MESH = fs.make_mesh(tensor=8)
EXPLICIT = jax.make_mesh((8,), ("tensor",))


def model_of(tied=False, **fields):
    config = CONFIG.replace(tie_word_embeddings=tied)
    return fm.LlamaForCausalLM(config, **{"rules": "tensor", **fields})


def loss(model):
    """A function of params -> (loss, logits)."""

    def of(params):
        logits = model.apply({"params": params}, IDS).logits
        scores = jax.nn.log_softmax(logits)[:, :-1]
        return -jnp.take_along_axis(scores, IDS[:, 1:, None], axis=-1).mean(), logits

    return of


@pytest.mark.parametrize("tied", [False, True])
def test_padding_changes_no_number(tmp_path, tied, thorough):
    plain = model_of(tied)
    params = params_of(plain)
    plain.save_pretrained(params, tmp_path / "one")
    with pytest.warns(UserWarning, match="whole on each device: .*k_proj/kernel: replicated: 2 kv"):
        model, placed = fm.LlamaForCausalLM.from_pretrained(
            tmp_path / "one", mesh=MESH, rules="tensor", uneven=UNEVEN
        )
    table = placed["model"]["embed_tokens"]["embedding"]
    assert table.shape == (64, 32) and table.sharding.spec == P("tensor", None)
    assert not np.asarray(table)[V:].any()

    ((value, logits), gradient), ((want, expected), wanted) = (
        jax.jit(jax.value_and_grad(loss(m), has_aux=True))(p)
        for m, p in ((model, placed), (plain, params))
    )
    np.testing.assert_allclose(value, want, rtol=1e-5)
    assert not np.asarray(gradient["model"]["embed_tokens"]["embedding"])[V:].any()
    cut = model.cut(gradient)
    for have, one in zip(jax.tree.leaves(cut), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(have, one, atol=1e-6)

    by_operations = [model.apply({"params": placed}, IDS).logits] if tied and thorough else []
    for found in (logits, *by_operations):
        assert found.shape == (4, 8, V)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    model.save_pretrained(placed, tmp_path / "two")
    again = fm.LlamaForCausalLM.from_pretrained(tmp_path / "two")[1]
    jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.fixture(scope="module")
def drawn():
    """(model, params) that are padded, and the params without the padding."""
    with pytest.warns(UserWarning, match="replicated: 2 kv_heads"):
        model = model_of(uneven=UNEVEN)
        placed = model.init_params(jax.random.key(0), EXPLICIT)
    return model, placed, jax.tree.map(np.asarray, model.cut(placed))


def test_D7_padding_is_drawn_and_cut_and_explicit_axes_are_taken_as_auto_ones(drawn):
    model, placed, params = drawn
    want = model.place(model.abstract_params(), MESH).shardings
    assert jax.tree.all(jax.tree.map(lambda x, s: x.sharding == s, placed, want))
    assert placed["lm_head"]["kernel"].shape == (32, 64)
    assert params["lm_head"]["kernel"].shape == (32, V)


@pytest.mark.soak  # the logits of `test_padding_changes_no_number` end before the padding
def test_padding_is_generated_past(drawn):
    model, placed, params = drawn
    plain = model_of()
    told = {"max_new_tokens": 3, "do_sample": True, "key": jax.random.key(1)}
    have, want = (m.generate(p, IDS[:2, :4], **told) for m, p in ((model, placed), (plain, params)))
    assert (have.sequences == want.sequences).all()


def test_padding_moves_nothing():
    """The cut is at the end of the last shard, and a loss reads logits that are split unevenly."""
    with warnings.catch_warnings(action="ignore"):
        model = model_of(uneven=UNEVEN)
        placed = model.place(model.abstract_params(), MESH)
    params = placed.structure.unflatten(
        jax.ShapeDtypeStruct(row.stored, row.dtype, sharding=row.sharding) for row in placed.rows
    )
    program = jax.jit(lambda params: loss(model)(params)[0])
    found = fs.collectives(program.lower(params).compile(), MESH)
    assert {one.kind for one in found} == {"all-reduce"}
    assert max(one.nbytes for one in found) == 4 * 8 * 32 * 4


def test_a_larger_vocabulary_is_no_padding():
    model = model_of(uneven="pad")
    params = params_of(model_of())
    params["lm_head"] = {"kernel": jnp.zeros((32, V + 8))}
    with pytest.raises(Exception, match="61"):
        jax.eval_shape(model.apply, {"params": params}, IDS)
    with pytest.raises(Exception, match="64"):  # and a model that pads nothing takes none
        wide = {**params, "lm_head": {"kernel": jnp.zeros((32, 64))}}
        jax.eval_shape(model_of().apply, {"params": wide}, IDS)


REFUSED = {
    "default": ({}, r"lm_head/kernel: dimension 'vocab' of size 61 .*or pad it with uneven="),
    "heads": (
        {"uneven": "pad", "rules": (("kv_heads", ("x", "tensor")), *fs.PRESETS["tensor"])},
        r"k_proj/kernel: kv_heads of size 4 over x, tensor of size 8: 'kv_heads' is not padded: "
        r"shards would end inside of heads.*'replicate' keeps",
    ),
}


@pytest.mark.parametrize(("how", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_divide_is_refused_with_what_may_be_done(how, said):
    config = CONFIG.replace(head_dim=2, num_key_value_heads=2)
    mesh = fs.make_mesh(x=2, tensor=4) if "uneven" in how else MESH
    rules = how.get("rules", "tensor")
    template = fm.LlamaForCausalLM(config).abstract_params()
    with pytest.raises(ValueError, match=said):
        fs.shardings(template, mesh, rules, uneven=how.get("uneven"))


@pytest.mark.parametrize(
    ("uneven", "error", "said"),
    [
        ("padd", ValueError, "uneven is 'padd'; expected one of refuse, replicate, pad"),
        ({"vocab": 3}, ValueError, r"uneven\['vocab'\] is 3; expected one of refuse"),
        ({"heads": "pad"}, ValueError, "'heads' is not padded: shards would end inside"),
        (3, TypeError, "uneven is 3: expected one of refuse, replicate, pad, or a mapping"),
    ],
)
def test_choices_that_are_none(uneven, error, said):
    with pytest.raises(error, match=said):
        fs.as_uneven(uneven)
    with pytest.raises(error, match=said):
        model_of(uneven=uneven)


def test_an_axis_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"uneven: .* logical axis 'vocb' \(nearest: 'vocab'\)"):
        fs.shardings(model_of().abstract_params(), MESH, uneven={"vocb": "pad"})


def test_shardings_warn_of_what_is_replicated():
    with pytest.warns(UserWarning, match="61 over tensor of size 8, and 1 more"):
        found = fs.shardings(model_of().abstract_params(), MESH, "tensor", uneven="replicate")
    assert found["lm_head"]["kernel"].spec == P(None, None)


# --- rules of paths ---


def test_path_rules_decide_before_logical_axes():
    rules = (
        ("embed", None),
        fs.PathRule(r"/q_proj/kernel$", (None, "tensor")),
        fs.PathRule(r"_proj/kernel$", ()),
        *fs.DEFAULT_RULES,
    )
    mesh = fs.make_mesh(fsdp=2, tensor=4)
    for scan in (False, True):
        model = fm.LlamaForCausalLM(CONFIG.replace(vocab_size=64), scan_layers=scan, rules=rules)
        rows = {row.path: row for row in fs.report(model, mesh).rows}
        at = "model/layers/" if scan else "model/layers/0/"
        lead = (None,) if scan else ()
        q, k = (rows[f"{at}self_attn/{name}_proj/kernel"] for name in "qk")
        assert tuple(q.spec) == (*lead, None, "tensor") and tuple(k.spec) == (*lead, None, None)
        assert q.rules == ("1: PathRule('/q_proj/kernel$', (None, 'tensor'))",)
        assert k.rules[0].startswith("2: PathRule('_proj/kernel$', ())")
        table = rows["model/embed_tokens/embedding"]
        assert tuple(table.spec) == ("tensor", None)
        assert table.rules == ("3: ('vocab', 'tensor')", "0: ('embed', None)")
    assert hash(model.rules) and {model: 1}[model.clone()]


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: fs.PathRule("("), ValueError, r"PathRule: '\(' is no regular expression"),
        (lambda: fs.PathRule("a", "tensor"), TypeError, "a spec has an entry for each dimension"),
        (lambda: fs.PathRule("a", ("x", "x")), ValueError, "names a mesh axis twice"),
        (lambda: fs.PathRule("a", (3,)), TypeError, "is no rule"),
        (
            lambda: fs.PathRule("k_proj/kernel", ("tensor",)),
            ValueError,
            "1 entries, and the leaf 2",
        ),
        (lambda: fs.PathRule("kproj"), ValueError, r"matches no path"),
        (lambda: fs.PathRule("k_proj", (None, "tensr")), ValueError, "nearest: 'tensor'"),
    ],
)
def test_path_rules_that_act_on_nothing(make, error, said):
    with pytest.raises(error, match=said):
        rules = (make(), *fs.PRESETS["tensor"])
        fs.shardings(model_of().abstract_params(), MESH, rules, uneven="pad")


# --- the report ---


def test_the_report_says_what_is_where_and_why(tmp_path):
    model = model_of(uneven=UNEVEN)
    mesh = jax.sharding.AbstractMesh((8,), ("tensor",), (jax.sharding.AxisType.Auto,))
    found = fs.report(model, mesh)
    rows = {row.path: row for row in found.rows}
    head = rows["lm_head/kernel"]
    assert (head.shape, head.stored, head.bytes_per_device) == ((32, V), (32, 64), 32 * 8 * 4)
    assert (head.replication, rows["model/norm/scale"].replication) == (1, 8)
    assert head.notes == ("padded to 64: vocab of size 61 over tensor of size 8",)
    k = rows["model/layers/0/self_attn/k_proj/kernel"]
    assert k.notes == ("replicated: 2 kv_heads over tensor of size 8",) and k.replication == 8
    text = str(found)
    for said in (
        "12 leaves on 8 devices (tensor=8)",
        "32x61 -> 32x64",
        "embed, vocab",
        *head.notes,
    ):
        assert said in text
    assert found.bytes_per_device == sum(row.bytes_per_device for row in found.rows)
    split = fs.report(model, mesh, uneven={"vocab": "pad"})
    assert "split inside of them: 2 kv_heads over tensor of size 8" in str(split)

    params = params_of(model_of())
    model.save_pretrained(params, tmp_path)
    plan = fm.load_plan(tmp_path)
    read = fs.report(model, mesh, plan=plan)
    assert {row.read_mode for row in read.rows} == {"host"} and " host " in str(read)


def test_the_report_counts_what_devices_hold():
    mesh = fs.make_mesh(fsdp=2, tensor=4)
    model = fm.LlamaForCausalLM(CONFIG.replace(vocab_size=64))
    params = jax.device_put(params_of(model), fs.shardings(model.abstract_params(), mesh))
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in fp.flatten(params).values())
    assert fs.report(model, mesh).bytes_per_device == held
