"""Meshes, logical axes, rules, and pictures of where an array lies."""

import copy
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from flaxmodels import sharding as fs
from flaxmodels.sharding import joining


@pytest.fixture(scope="module")
def mesh():
    return fs.make_mesh(fsdp=-1, tensor=2)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ({"fsdp": -1, "tensor": 2}, {"fsdp": 4, "tensor": 2}),
        ({"tensor": 2, "fsdp": -1}, {"tensor": 2, "fsdp": 4}),
        ({"data": 2, "fsdp": 2, "tensor": 2}, {"data": 2, "fsdp": 2, "tensor": 2}),
        ({"data": -1}, {"data": 8}),
        ({"data": 8, "fsdp": -1}, {"data": 8, "fsdp": 1}),
        ({"data": 1, "fsdp": 8}, {"data": 1, "fsdp": 8}),
    ],
)
def test_make_mesh(axes, shape):
    mesh = fs.make_mesh(**axes)
    assert dict(mesh.shape) == shape and list(mesh.axis_names) == list(axes)
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert {device.id for device in mesh.devices.flat} == set(range(8))


def test_the_last_axis_joins_neighbours(mesh):
    assert [[d.id for d in row] for row in mesh.devices] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_make_mesh_of_some_devices():
    mesh = fs.make_mesh(devices=jax.devices()[2:4], tensor=-1)
    assert [device.id for device in mesh.devices.flat] == [2, 3]


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({}, "make_mesh needs at least one axis, such as make_mesh(fsdp=-1, tensor=2)"),
        ({"fsdp": 3}, "make_mesh(fsdp=3) does not fit 8 devices; choose sizes whose product is 8"),
        ({"fsdp": -1, "tensor": 3}, "make_mesh(fsdp=-1, tensor=3) does not fit 8 devices"),
        ({"fsdp": -1, "tensor": 16}, "make_mesh(fsdp=-1, tensor=16) does not fit 8 devices"),
        ({"fsdp": 4, "tensor": 4}, "devices=jax.devices()[:n] to use fewer"),
        ({"fsdp": 0}, "make_mesh(fsdp=0): size of axis 'fsdp' must be positive or -1"),
        ({"data": 2, "fsdp": -2}, "size of axis 'fsdp' must be positive or -1"),
        ({"data": -1, "fsdp": -1}, "only one axis may be -1"),
    ],
)
def test_bad_meshes(axes, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        fs.make_mesh(**axes)


def leaf(shape, *axes):
    return fs.AbstractParam(shape, jnp.float32, axes=axes)


TEMPLATE = {
    "embed": {"embedding": leaf((16, 8), "vocab", "embed")},
    "layers": {"q": {"kernel": leaf((3, 8, 16), "layers", "embed", "heads")}},
    "norm": {"scale": leaf((8,), "norm")},
    "scalar": leaf(()),
}


def specs(mesh, rules=fs.DEFAULT_RULES, template=TEMPLATE):
    made = fs.shardings(template, mesh, rules)
    assert jax.tree.structure(made) == jax.tree.structure(template)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): s.spec for p, s in
            jax.tree_util.tree_flatten_with_path(made)[0]}  # fmt: skip


def test_default_rules(mesh):
    assert specs(mesh) == {
        "embed/embedding": P("tensor", "fsdp"),
        "layers/q/kernel": P(None, "fsdp", "tensor"),
        "norm/scale": P(None),
        "scalar": P(),
    }
    sharding = fs.shardings(TEMPLATE, mesh)["embed"]["embedding"]
    assert isinstance(sharding, NamedSharding) and sharding.mesh == mesh


def test_a_mesh_axis_that_is_absent_counts_as_replicated():
    found = specs(fs.make_mesh(fsdp=-1))
    assert found["embed/embedding"] == P(None, "fsdp")
    assert set(specs(fs.make_mesh(data=-1)).values()) == {
        P(None, None),
        P(None, None, None),
        P(None),
        P(),
    }


def test_the_first_rule_wins(mesh):
    found = specs(mesh, (("vocab", None), ("embed", "tensor"), ("heads", None), *fs.DEFAULT_RULES))
    assert found["embed/embedding"] == P(None, "tensor")
    assert found["layers/q/kernel"] == P(None, "tensor", None)


def test_an_axis_over_several_mesh_axes(mesh):
    found = specs(mesh, (("vocab", ("fsdp", "tensor")), ("embed", None), *fs.DEFAULT_RULES))
    assert found["embed/embedding"] == P(("fsdp", "tensor"), None)
    found = specs(mesh, (("vocab", ("data", "tensor")), ("embed", ()), *fs.DEFAULT_RULES))
    assert found["embed/embedding"] == P("tensor", None)


@pytest.mark.parametrize(
    ("template", "rules", "said"),
    [
        (
            {"a": {"kernel": leaf((8, 8), "embed", "experts")}},
            (),
            "a/kernel: no rule for logical axis 'experts' (there are rules for batch, embed",
        ),
        ({"a": {"kernel": leaf((8,), "experts")}}, (), "add ('experts', None) to replicate it"),
        (
            {"a": {"kernel": leaf((8, 8), "embed", "mlp")}},
            (("mlp", "fsdp"),),
            "a/kernel: logical axes 'embed' and 'mlp' are both on mesh axis 'fsdp'; give one of",
        ),
        (
            {"a": {"kernel": leaf((8, 8), "embed", "embed")}},
            (),
            "logical axes 'embed' and 'embed' are both on mesh axis 'fsdp'",
        ),
        (
            {"a": {"kernel": leaf((8, 8), "embed", None)}},
            (("embed", ("fsdp", "fsdp")),),
            "rules: ('embed', ('fsdp', 'fsdp')) names a mesh axis twice",
        ),
        (
            {"a": {"kernel": leaf((6, 8), "embed", "mlp")}},
            (),
            "a/kernel: dimension 'embed' of size 6 (shape (6, 8)) does not divide over mesh axes "
            "('fsdp',) of size 4; choose another mesh, or replicate it with the rule "
            "('embed', None)",
        ),
        (
            {"a": {"bias": leaf((12,), "mlp")}},
            (("mlp", ("fsdp", "tensor")),),
            "does not divide over mesh axes ('fsdp', 'tensor') of size 8",
        ),
        (
            {"a": {"kernel": jax.ShapeDtypeStruct((8, 8), jnp.float32)}},
            (),
            "a/kernel: ShapeDtypeStruct has no logical axes; pass model.abstract_params()",
        ),
        ({"a": np.ones(3)}, (), "a: ndarray has no logical axes"),
    ],
)
def test_bad_shardings_name_path_axis_and_sizes(template, rules, said, mesh):
    with pytest.raises(ValueError, match=re.escape(said)):
        fs.shardings(template, mesh, (*rules, *fs.DEFAULT_RULES))


def test_partition_spec(mesh):
    assert fs.partition_spec(("vocab", None), (4, 3), mesh, fs.DEFAULT_RULES) == P("tensor", None)
    assert fs.partition_spec((), (), mesh, fs.DEFAULT_RULES) == P()
    with pytest.raises(ValueError, match="do not name the dimensions"):
        fs.partition_spec(("vocab",), (4, 3), mesh, fs.DEFAULT_RULES)


def test_constrain_is_nothing_without_a_mesh():
    x = jnp.ones((4, 2))
    assert fs.constrain(x, ("batch", "hidden"), fs.DEFAULT_RULES) is x
    text = (
        jax.jit(lambda x: fs.constrain(x, ("batch", "hidden"), fs.DEFAULT_RULES)).lower(x).as_text()
    )
    assert "sharding_constraint" not in text
    explicit = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    y = jax.device_put(jnp.ones((8, 2)), NamedSharding(explicit, P("data")))
    assert fs.constrain(y, ("batch", "hidden"), fs.DEFAULT_RULES) is y


def constrained(mesh, shape, axes, rules=fs.DEFAULT_RULES):
    """The sharding that a result of `constrain` has, of an input that is replicated."""
    x = jax.device_put(jnp.ones(shape), NamedSharding(mesh, P()))
    return jax.jit(lambda x: fs.constrain(x * 2, axes, rules))(x).sharding.spec


def padded(spec, rank):
    entries = [e[0] if isinstance(e, tuple) and len(e) == 1 else e for e in spec]
    return (*entries, *[None] * (rank - len(entries)))


@pytest.mark.parametrize(
    ("shape", "axes", "spec"),
    [
        ((8, 3, 4), ("batch", "length", "mlp"), ("fsdp", None, "tensor")),
        ((8, 3, 4), ("batch", "length", "hidden"), ("fsdp", None, None)),
        ((1, 3, 4), ("batch", "length", "mlp"), (None, None, "tensor")),  # 1 does not divide
        ((8, 3, 3), ("batch", "length", "mlp"), ("fsdp", None, None)),
        ((8, 4), ("batch", "embed"), ("fsdp", None)),  # the mesh axis is taken
        ((1, 4), ("batch", "embed"), (None, "fsdp")),  # what did not divide takes none
        ((8, 4), (None, "mlp"), (None, "tensor")),
    ],
)
def test_constrain_inside_jit(shape, axes, spec, mesh):
    assert padded(constrained(mesh, shape, axes), len(shape)) == spec


def test_constrain_changes_no_number_and_no_gradient(mesh):
    x = jax.device_put(jnp.arange(32.0).reshape(8, 4), NamedSharding(mesh, P("fsdp", "tensor")))

    def loss(x):
        return jnp.sum(fs.constrain(x, ("batch", "mlp"), fs.DEFAULT_RULES) ** 2)

    assert jax.jit(loss)(x) == jnp.sum(np.arange(32.0) ** 2)
    assert (jax.jit(jax.grad(loss))(x) == 2 * x).all()
    assert jax.vmap(lambda y: fs.constrain(y, ("mlp",), fs.DEFAULT_RULES))(x).shape == (8, 4)


def test_constrain_without_a_rule(mesh):
    with pytest.raises(ValueError, match="activation: no rule for logical axis 'experts'"):
        constrained(mesh, (8,), ("experts",))


def test_abstract_param():
    param = leaf((4, 2), "vocab", "embed")
    assert param.update(dtype=jnp.bfloat16).axes == ("vocab", "embed")
    assert param.update(dtype=jnp.bfloat16).dtype == jnp.bfloat16
    stacked = param.update(shape=(3, 4, 2), axes=("layers", "vocab", "embed"))
    assert (stacked.shape, stacked.axes) == ((3, 4, 2), ("layers", "vocab", "embed"))
    with pytest.raises(ValueError, match=r"axes \('vocab', 'embed'\) do not name the dimensions"):
        param.update(shape=(3, 4, 2))
    with pytest.raises(ValueError, match=r"axes \('vocab',\) do not name .* \(4, 2\)"):
        leaf((4, 2), "vocab")


def test_abstract_param_equals_the_plain_one():
    param, plain = leaf((4, 2), "vocab", "embed"), jax.ShapeDtypeStruct((4, 2), jnp.float32)
    assert param == plain and plain == param and hash(param) == hash(plain)
    assert param == leaf((4, 2), None, None)
    assert param != leaf((2, 4), "vocab", "embed")
    assert param != param.update(dtype=jnp.bfloat16)
    assert jax.tree.leaves({"a": param}) == [param]


def test_abstract_param_pickles():
    param = leaf((4, 2), "vocab", "embed")
    again = pickle.loads(pickle.dumps(param))
    assert again == param and again.axes == param.axes
    assert copy.deepcopy(param).axes == param.axes


def test_abstract_param_in_transforms(mesh):
    param = leaf((8, 2), "vocab", "embed").update(sharding=NamedSharding(mesh, P("fsdp")))
    assert jax.eval_shape(lambda x: x @ x.T, param).shape == (8, 8)
    compiled = jax.jit(lambda x: x * 2).lower(param).compile()
    assert compiled.input_shardings[0][0].spec == P("fsdp")
    assert jax.tree.map(lambda x: x.axes, {"a": param}) == {"a": ("vocab", "embed")}


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        init = fs.with_axes(nn.initializers.ones, "embed", "mlp")
        kernel = self.param("kernel", init, (4, 4))
        return x @ kernel, None


def test_declared_axes():
    init = Layer().init, jax.random.key(0), jnp.ones((2, 4)), None
    param = fs.declared_axes(*init)["params"]["kernel"]
    assert param == jax.ShapeDtypeStruct((4, 4), jnp.float32)
    assert param.axes == ("embed", "mlp") and param.draw is nn.initializers.ones
    dense = fs.declared_axes(nn.Dense(3).init, *init[1:3])["params"]
    assert (dense["kernel"].axes, dense["bias"].axes) == ((None, None), (None,))


@pytest.mark.parametrize(
    ("how", "name"),
    [({"axis": "layers"}, "layers"), ({nn.PARTITION_NAME: "layers"}, "layers"), ({}, None)],
)
def test_declared_axes_through_scan(how, name):
    scanned = nn.scan(
        Layer,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=3,
        metadata_params=how,
    )()
    init = scanned.init, jax.random.key(0), jnp.ones((2, 4)), None
    param = fs.declared_axes(*init)["params"]["kernel"]
    assert param.shape == (3, 4, 4) and param.axes == (name, "embed", "mlp")


def test_D30_declared_axes_are_not_what_a_compiled_init_returns():
    init = jax.jit(Layer().init)
    arguments = jax.random.key(0), jnp.ones((2, 4)), None
    for _ in range(2):
        assert isinstance(init(*arguments)["params"]["kernel"], jax.Array)
        assert fs.declared_axes(init, *arguments)["params"]["kernel"].axes == ("embed", "mlp")


def test_axes_box():
    box = fs.Axes(jnp.ones((2, 3)), ("embed", "mlp"), None)
    added = box.add_axis(1, {"axis": "layers"})
    assert added.names == ("embed", "layers", "mlp")
    assert added.remove_axis(1, {"axis": "layers"}).names == box.names
    assert box.replace_boxed(1).unbox() == 1


PICTURES = {
    "both": (
        (8, 8),
        P("fsdp", "tensor"),
        """
w (8, 8) float32 ('fsdp', 'tensor')
  +---+---+
  | 0 | 1 |
  +---+---+
  | 2 | 3 |
  +---+---+
  | 4 | 5 |
  +---+---+
  | 6 | 7 |
  +---+---+""",
    ),
    "one": (
        (8, 8),
        P("fsdp"),
        """
w (8, 8) float32 ('fsdp',)
  +-----+-----+-----+-----+
  | 0-1 | 2-3 | 4-5 | 6-7 |
  +-----+-----+-----+-----+""",
    ),
    "other": (
        (8, 8),
        P(None, "tensor"),
        """
w (8, 8) float32 (None, 'tensor')
  +---------+---------+
  | 0,2,4,6 | 1,3,5,7 |
  +---------+---------+""",
    ),
    "replicated": ((8, 8), P(), "\nw (8, 8) float32 ()\n  +-----+\n  | 0-7 |\n  +-----+"),
    "scalar": ((), P(), "\nw () float32 ()\n  +-----+\n  | 0-7 |\n  +-----+"),
    "stacked": (
        (2, 4, 4),
        P("tensor", None, "fsdp"),
        """
w (2, 4, 4) float32 ('tensor', None, 'fsdp')
  +---+---+---+---+
  | 0 | 2 | 4 | 6 |
  +---+---+---+---+
  | 1 | 3 | 5 | 7 |
  +---+---+---+---+""",
    ),
}


@pytest.mark.parametrize("case", PICTURES)
def test_picture(case, mesh):
    shape, spec, text = PICTURES[case]
    array = jax.device_put(np.ones(shape, np.float32), NamedSharding(mesh, spec))
    assert fs.picture(array, "w") == text.removeprefix("\n")


def test_picture_of_one_device_and_of_three_sharded_dimensions():
    assert fs.picture(jnp.ones((4, 4))) == "(4, 4) float32\n  +---+\n  | 0 |\n  +---+"
    cube = fs.make_mesh(a=2, b=2, c=2)
    array = jax.device_put(jnp.ones((2, 2, 2)), NamedSharding(cube, P("a", "b", "c")))
    assert fs.picture(array).splitlines()[2::2] == ["  | 0-1 | 2-3 |", "  | 4-5 | 6-7 |"]


def test_initialize_a_second_time_does_nothing(monkeypatch):
    calls = []
    monkeypatch.setattr(joining, "_join", lambda seconds, **kwargs: calls.append(kwargs))
    for name in ("_tell", "_delay_abort"):
        monkeypatch.setattr(joining, name, lambda *args: None)
    monkeypatch.setattr(joining.atexit, "register", lambda *args: None)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: bool(calls))
    for _ in range(2):
        fs.initialize(num_processes=2)
    assert len(calls) == 1 and calls[0]["num_processes"] == 2


# --- D7, D26: meshes and rules of users ---


EXPLICIT = jax.make_mesh((4, 2), ("fsdp", "tensor"))
BAD_MESHES = {
    "half manual": (
        jax.make_mesh((8, 1), ("fsdp", "x"), axis_types=(AxisType.Explicit, AxisType.Manual)),
        ValueError,
        r"\(fsdp=8, x=1\) are Explicit and Manual.*check_mesh\(mesh\).*make_mesh\(fsdp=8, x=1\)",
    ),
    "manual": (
        jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Manual,)),
        ValueError,
        "are Manual",
    ),
    "none": (jax.sharding.get_mesh(), ValueError, "mesh has no axes; make one with"),
    "devices": (jax.devices(), TypeError, "mesh is a list: expected a jax.sharding.Mesh"),
    "sizes": ({"fsdp": 8}, TypeError, r"mesh is a dict.*make_mesh\(fsdp=-1\)"),
}


@pytest.mark.parametrize(("mesh", "error", "said"), BAD_MESHES.values(), ids=BAD_MESHES)
def test_D7_meshes_that_do_not_serve_are_refused_with_the_line_that_does(mesh, error, said):
    template = {"w": leaf((8, 4), "vocab", "embed")}
    for call in (lambda: fs.check_mesh(mesh), lambda: fs.shardings(template, mesh)):
        with pytest.raises(error, match=said):
            call()


def test_D7_the_lines_that_are_suggested_serve():
    for made in (fs.make_mesh(fsdp=4, tensor=2), fs.check_mesh(EXPLICIT)):
        assert fs.check_mesh(made) is made
        assert made.axis_names == EXPLICIT.axis_names and made.devices.shape == (4, 2)


def test_an_abstract_mesh_is_planned_on():
    template = {"w": leaf((8, 4), "vocab", "embed")}
    mesh = jax.sharding.AbstractMesh((2, 4), ("fsdp", "tensor"), (AxisType.Auto,) * 2)
    assert fs.shardings(template, mesh)["w"].spec == P("tensor", "fsdp")
    with pytest.raises(TypeError, match="mesh is abstract and has no devices"):
        fs.check_mesh(mesh)


UNUSED = {
    "data, model": (
        {"data": 2, "model": 4},
        r"no rule names the mesh axes 'model'.*default_rules\(tensor='model'\), or call them as the"
        r" rules do: .*make_mesh\(data=2, tensor=4\)",
    ),
    "dp, tp": (
        {"dp": 2, "tp": 4},
        r"'dp', 'tp'.*default_rules\(data='dp', tensor='tp'\).*make_mesh\(data=2, tensor=4\)",
    ),
    "another": (
        {"data": 2, "stage": 4},
        r"'stage'.*rules=\(\(\"batch\", \('data', 'stage'\)\), \*.*DEFAULT_RULES\)",
    ),
    "taken": ({"tensor": 2, "model": 4}, r"mesh axes 'model'.*\(\"batch\", \('model',\)\)"),
}


@pytest.mark.parametrize(("axes", "said"), UNUSED.values(), ids=UNUSED)
def test_D7_mesh_axes_that_no_rule_names_are_listed(axes, said):
    template = {"w": leaf((8, 4), "vocab", "embed")}
    with pytest.raises(ValueError, match=said):
        fs.shardings(template, fs.make_mesh(**axes))


def test_D7_the_rules_that_are_suggested_serve():
    template = {"w": leaf((8, 4), "vocab", "embed")}

    def spec(rules, **axes):
        return fs.shardings(template, fs.make_mesh(**axes), rules)["w"].spec

    assert spec(fs.default_rules(data="dp", tensor="tp"), dp=2, tp=4) == P("tp", None)
    assert spec(fs.default_rules(tensor="model", fsdp="data"), data=2, model=4) == P(
        "model", "data"
    )
    rules = (("batch", ("data", "stage")), *fs.DEFAULT_RULES)
    assert spec(rules, data=2, stage=4) == P(None, None)
    alone = spec(fs.DEFAULT_RULES, stage=1, tensor=8)
    assert alone == P("tensor", None), "an axis of one device loses nothing"


def test_default_rules_of_one_axis():
    rules = dict(fs.default_rules(fsdp="data"))
    assert rules["batch"] == ("data",) and rules["embed"] == "data"
    assert fs.default_rules() == fs.DEFAULT_RULES
    with pytest.raises(TypeError, match="name the axes data, fsdp, expert, tensor; got model"):
        fs.default_rules(model="tensor")


def test_D26_rules_of_other_containers():
    listed = [["vocab", None], ["batch", ["data", "fsdp"]], *map(list, fs.DEFAULT_RULES)]
    rules = fs.as_rules(listed)
    assert hash(rules) == hash((("vocab", None), ("batch", ("data", "fsdp")), *fs.DEFAULT_RULES))
    assert fs.as_rules(dict(fs.DEFAULT_RULES)) == fs.DEFAULT_RULES == fs.as_rules(None)
    template = {"w": leaf((8, 4), "vocab", "embed")}
    mesh = fs.make_mesh(fsdp=-1)
    assert fs.shardings(template, mesh, iter([["vocab", "fsdp"], ["embed", None]]))["w"].spec == P(
        "fsdp", None
    )


@pytest.mark.parametrize(
    ("rules", "error", "said"),
    [
        ("vocab", ValueError, r"no preset 'vocab'; there are replicated, fsdp, tensor, fsdp\+"),
        ("tensors", ValueError, r"no preset 'tensors' \(nearest: 'tensor'\)"),
        (3, TypeError, "rules is 3: expected pairs"),
        ([("vocab",)], TypeError, r"\('vocab',\) is no rule"),
        (["vocab"], TypeError, "'vocab' is no rule"),
        ([("vocab", 3)], TypeError, "is no rule; expected"),
        ([("batch", {"data", "fsdp"})], TypeError, "is no rule"),
        ([("batch", ("data", "data"))], ValueError, "names a mesh axis twice"),
        ([("vocb", None)], ValueError, r"logical axis 'vocb' \(nearest: 'vocab'\); there are b"),
        ([("mlp", "tensr")], ValueError, r"mesh axis 'tensr' \(nearest: 'tensor'\); the mesh has"),
        ([("mlp", "stage")], ValueError, "mesh axis 'stage'; the mesh has fsdp, tensor; an axis"),
    ],
)
def test_D26_rules_that_are_none_or_act_on_nothing(mesh, rules, error, said):
    rules = [*rules, *fs.DEFAULT_RULES] if isinstance(rules, list) else rules
    with pytest.raises(error, match=said):
        fs.shardings({"w": leaf((8, 4), "vocab", "embed")}, mesh, rules)


def test_D26_a_template_brings_axes_of_its_own(mesh):
    template = {"w": leaf((8, 4), "expert", "embed")}
    rules = (("expert", "tensor"), *fs.DEFAULT_RULES)
    assert fs.shardings(template, mesh, rules)["w"].spec == P("tensor", "fsdp")
