"""Every field of every configuration changes a program, or its family's table says why not.

Programs are compared as what they are compiled from, and none is compiled. A field is changed by
its kind (`changes`); what a kind cannot say stands in `WALK` and `UNREAD` of `tests/families`.
"""

import contextlib
import dataclasses
import functools
import operator
import types
import typing

import _families as families
import jax
import numpy as np
import pytest
import reference
from flax.core import FrozenDict
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.models import task_heads

UNREAD = {
    "bos_token_id": "generation reads it",
    "eos_token_id": "generation reads it",
    "id2label": "names of labels",
    "extra": "what no field claims",
    "pruned_heads": "tests/editing/test_prune.py",
}
NAMES = {"full_attention": "sliding_attention", "sliding_attention": "full_attention"}
NAMES |= {"global": "local", "local": "global"}
"""A name -> another that may stand in its place; of functions, any other."""
IDS = np.array([[5, 7, 3, 9, 2, 8, 3, 4]])  # one ends a sequence


def changes(name, value, hint):
    """Other values of a field, the likeliest first: the first that makes a configuration is taken.

    Args:
        hint: the field's type, which says what may stand in the place of None.
    """
    if value is None:
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        return [new for kind in kinds for new in changes(name, _ZEROS.get(kind, 0), kind)]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2, value // 2]
    if isinstance(value, float):
        return [value * 2 + 0.1, value / 2]
    if isinstance(value, str):
        return [NAMES.get(value, "relu" if value != "relu" else "tanh")]
    if isinstance(value, tuple):
        first = changes(name, value[0], hint) if value else []
        return [(new, *value[1:]) for new in first]
    if isinstance(value, FrozenDict):  # of numbers, or of such
        found = []
        for key, inner in value.items():
            if not isinstance(inner, str):
                found += [{**value, key: new} for new in changes(key, inner, None)]
        return found
    raise TypeError(f"no rule for {name} = {value!r}: say in the family's table what changes it")


_ZEROS = {int: 3, float: 0.4, bool: False, str: ""}

# --- what is made of a configuration ---

KEY = jax.random.key(0, impl="rbg")


def shapes(model):
    return {path: leaf.shape for path, leaf in fp.flatten(model.abstract_params()).items()}


def tokens(model):
    ids = IDS[:, None] if isinstance(model, task_heads.OverChoices) else IDS
    names = [name for name in model.dummy_inputs() if name.endswith("input_ids")]
    return dict.fromkeys(names[:1] if getattr(model, "shifts_input_ids", False) else names, ids)


def forward(model):
    """A pass and what it is called with: the params as they are described."""
    given = tokens(model)
    return lambda params: model.apply({"params": params}, **given), (model.abstract_params(),)


def training(model):
    given = tokens(model)

    def run(params, key):
        rngs = {"dropout": key}
        return model.apply({"params": params}, **given, deterministic=False, rngs=rngs)

    return run, (model.abstract_params(), KEY)


def initial(model):
    return model.init_params, (KEY,)


def made_and_run(model, **how):
    """A pass that draws its params first: one trace, where the params' description and the pass
    are two."""
    given = tokens(model)

    def run(key):
        return model.init_with_output({"params": key, "dropout": key}, **given, **how)

    return run, (KEY,)


TRACED = {forward: made_and_run, training: functools.partial(made_and_run, deterministic=False)}


class Program:
    """What is compiled of a call. Two differ if their jaxprs do; only where they do not, which says
    nothing of large constants, are they lowered, which takes as long as to trace them."""

    def __init__(self, function, arguments):
        self.traced = jax.jit(function).trace(*arguments)

    @functools.cached_property
    def lowered(self):
        return self.traced.lower().as_text()

    def __eq__(self, other):
        alike = same(self.traced.jaxpr, other.traced.jaxpr)
        return alike and self.lowered == other.lowered


def same(one, other):
    """Whether two jaxprs, or parameters of their equations, are one but for the names of variables
    and for functions, which are others in each trace. To print them takes five times as long."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, ClosedJaxpr):
        return same(one.jaxpr, other.jaxpr)
    if isinstance(one, Jaxpr):
        return _same_equations(one, other)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray | np.generic):
        return np.array_equal(one, other)
    return callable(one) or type(one).__eq__ is object.__eq__ or one == other


def _same_equations(one, other):
    if len(one.eqns) != len(other.eqns) or len(one.invars) != len(other.invars):
        return False
    place = dict(zip(one.constvars + one.invars, other.constvars + other.invars, strict=False))

    def read(x, y):
        return same(x.val, y.val) if isinstance(x, Literal) else place.get(x) is y

    def made(x, y):
        place[x] = y
        return x.aval == y.aval

    pairs = zip(one.eqns, other.eqns, strict=True)
    return (
        all(map(made, one.invars, other.invars))
        and all(
            x.primitive is y.primitive
            and len(x.invars) == len(y.invars)
            and all(map(read, x.invars, y.invars))
            and all(map(made, x.outvars, y.outvars))
            and x.params.keys() == y.params.keys()
            and all(same(value, y.params[name]) for name, value in x.params.items())
            for x, y in pairs
        )
        and len(one.outvars) == len(other.outvars)
        and all(map(read, one.outvars, other.outvars))
    )


@functools.cache
def program(model, make):
    """What is compiled of `make(model)`, its constants in full."""
    return shapes(model) if make is shapes else Program(*TRACED.get(make, make)(model))


@functools.cache
def numbers(model, make):
    """What `make(model)` puts out, for params drawn large."""
    if make is shapes:
        return shapes(model)
    function, arguments = make(model)
    rng = np.random.default_rng(0)
    drawn = [
        rng.normal(0.0, 0.5, leaf.shape).astype(np.float32)
        if isinstance(leaf, jax.ShapeDtypeStruct)
        else leaf
        for leaf in jax.tree.leaves(arguments)
    ]
    return jax.jit(function)(*jax.tree.unflatten(jax.tree.structure(arguments), drawn))


def apart(one, other):
    """Whether two results differ in their form, or by more than 1e-4."""
    if jax.tree.structure(one) != jax.tree.structure(other):
        return True
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(np.shape(x) != np.shape(y) or np.abs(x - y).max() > 1e-4 for x, y in pairs)


# --- the walk ---

ROPE = {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}
WALK = {"max_position_embeddings": ([5], ROPE)}
"""As `walk` of a table, for configurations with `rope_parameters`."""
DECODER_LAYERS = ("decoder_layers", "num_decoder_layers")
CLASSIFIERS = ("ForTokenClassification", "ForSequenceClassification")
"""Those of tokens first: a head of sequences has no dropout in many families."""
LIKELY = {
    "initializer_range": ("", initial),
    "initializer_factor": ("", initial),
    "init_std": ("", initial),
    "attention_bias": ("", shapes),
    "final_logit_softcapping": ("CausalLM", forward),
    "pad_token_id": ("ForSequenceClassification", forward),
    "scale_decoder_outputs": ("ForConditionalGeneration", forward),
    "decoder_start_token_id": ("ForSequenceClassification", forward),
    "tie_word_embeddings": (("LM", "LMHeadModel", "ForConditionalGeneration"), shapes),
    "legacy": ("ForMaskedLM", shapes),
    "decoder_bias": ("ForMaskedLM", shapes),
    "num_labels": ("ForSequenceClassification", shapes),
    "classifier_bias": ("ForSequenceClassification", shapes),
    "classifier_pooling": ("ForSequenceClassification", forward),
    "classifier_activation": ("ForSequenceClassification", forward),
    "classifier_dropout": (CLASSIFIERS, training),
    "classifier_dropout_prob": (CLASSIFIERS, training),
    "cls_dropout": ("ForSequenceClassification", training),
    "pooler_dropout": ("ForSequenceClassification", training),
    "pooler_hidden_act": ("ForSequenceClassification", forward),
    "summary_use_proj": ("DoubleHeadsModel", shapes),
    "summary_proj_to_labels": ("DoubleHeadsModel", shapes),
    "summary_first_dropout": ("DoubleHeadsModel", training),
    "summary_activation": ("DoubleHeadsModel", forward),
}
"""Field -> the class, by how its name ends, and what of it is looked at first; the bare model if it
is not said. Of other fields it is a pass, whose params are drawn in the size of each."""


class Walk:
    """One family's configurations, before and after a field was changed."""

    def __init__(self, family):
        program.cache_clear()
        self.table = families.load(family)
        self.config_class = getattr(fm, self.table.bare).config_class
        layers = "num_hidden_layers"
        layers = (self.config_class.aliases.get(layers, layers), *DECODER_LAYERS)
        self.hints = typing.get_type_hints(self.config_class)
        self.few = {name: 1 for name in layers if name in self.hints}
        main = [self.table.bare, self.table.main]
        self.classes = main + [name for name in self.table.classes if name not in main]
        self.walk = (WALK if "rope_parameters" in self.hints else {}) | self.table.walk
        fields = {field.name for field in dataclasses.fields(self.config_class)}
        self.unread = UNREAD | self.table.unread
        assert {*self.table.unread} <= fields, "not a field of the family"
        inner = {*self.config_class.sub_configs}  # their own families' tables are for these
        self.fields = sorted(fields - {*self.unread} - inner)

    def pair(self, name, field, few):
        """A model of a class before and after the change; None if there is none after.

        Args:
            few: keys that leave fewer layers.
        """
        values, more = self.walk.get(field, (None, {}))
        cls = getattr(fm, name)
        with contextlib.suppress(fm.ConfigError):  # a pattern of layers that does not fit to fewer
            before = self.config_class.from_dict(self.table.config_of(name) | few | more)
            now = getattr(before, field)
            for value in changes(field, now, self.hints[field]) if values is None else values:
                with contextlib.suppress(fm.ConfigError):
                    after = before.replace(**{field: value})
                    how = {"scan_layers": False, "attn_implementation": "eager"}  # least to trace
                    return tuple(cls(config, **how) for config in (before, after))
        return None

    def differs(self, field, see=program, differ=operator.ne):
        """Whether something of any class is another after the change: with one layer, where what
        is likely is looked at, or with all."""
        changed = False
        for few in (self.few, {}) if self.few else ({},):
            pair = functools.cache(lambda name: self.pair(name, field, few))  # noqa: B023
            for name, make in self.views(field, every=not few):
                models = pair(name)
                if models is not None:
                    changed = True
                    if differ(*(see(model, make) for model in models)):
                        return True
        assert changed, f"no other value of {field} makes a configuration; say one in the table"
        return False

    def views(self, field, every):
        """(class, what of it), in the order in which a difference is likely and cheap to see: all,
        or those alone that are likely."""
        bare, *others = self.classes
        ending, make = LIKELY.get(field, ("", training if "drop" in field else forward))
        endings = (ending,) if isinstance(ending, str) else ending
        likely = [(name, make) for end in endings if end for name in others if name.endswith(end)]
        first = [*(likely or [(bare, make)]), (bare, forward), (bare, initial)]
        cheap = [(name, shapes) for name in others]
        more = [(name, make) for make in (forward, training, initial) for name in self.classes]
        return first + cheap + more if every else first


EACH = [(name,) for name in families.names()]


def test_a_program_that_is_traced_again_is_the_same():
    walk = Walk("llama")
    models = walk.pair("LlamaModel", "attention_dropout", walk.few)
    one, again, other = (
        Program(*TRACED[training](model)).traced.jaxpr for model in (models[0], *models)
    )
    assert same(one, again) and not same(again, other)


@functools.cache
def introduced():
    """{family that stands for a kind of layer: the fields of its config's classes, its own or
    shared, which no such family before it has}."""
    found, known = {}, set()
    for (family,) in filter(reference.stands, EACH):
        table = families.load(family)
        mro = getattr(fm, table.bare).config_class.__mro__
        fields = {(cls, name) for cls in mro for name in vars(cls).get("__annotations__", {})}
        first = {name: cls for cls in mro for name in vars(cls).get("__annotations__", {})}
        found[family] = {name for name in first if (first[name], name) not in known}
        known |= fields
    return found


def _introduces(pair):
    return bool(introduced().get(pair[0]))


@pytest.mark.parametrize("family", reference.params(EACH, by_default=_introduces))
def test_every_field_of_a_config_changes_a_program(family, thorough):
    """Of a pass, in training or not, or of `init_params`; or the leaves that there are. A field
    that families have from one class is changed in the first of them; in each with `--all`."""
    walk = Walk(family)
    fields = [field for field in walk.fields if thorough or field in introduced()[family]]
    assert [field for field in fields if not walk.differs(field)] == []


@pytest.mark.soak
@pytest.mark.parametrize("family", reference.params(EACH))
def test_every_field_of_a_config_changes_the_numbers(family):
    walk = Walk(family)
    assert [field for field in walk.fields if not walk.differs(field, numbers, apart)] == []


@pytest.mark.soak
@pytest.mark.parametrize("family", reference.params(EACH))
def test_a_field_that_no_model_reads_changes_no_program(family):
    """So that a difference means something, and the reasons are true."""
    walk = Walk(family)
    left = {*walk.unread} - {"extra", "id2label", "pruned_heads"}
    assert [field for field in sorted(left) if walk.differs(field)] == []
