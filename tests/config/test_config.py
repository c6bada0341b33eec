"""Configurations: what a `config.json` may say, what is refused, and that nothing is lost."""

import builtins
import copy
import dataclasses
import json
import os
import pickle
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from _files import put, quick
from flax.core import FrozenDict
from hypothesis import given
from hypothesis import strategies as st

import flaxmodels as fm
from flaxmodels.config.config import Config
from flaxmodels.documents.json_files import read_json
from flaxmodels.documents.json_values import ConfigError, freeze, thaw


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(Config):
    """A family of one: every type of field, an alias, and a key with unsupported values."""

    model_type: ClassVar[str] = "toy"
    aliases: ClassVar[Mapping[str, str]] = {"n_embd": "hidden_size"}
    unsupported: ClassVar = {"is_decoder": (False, None), "parts": ((1, 2), None)}

    hidden_size: int = 8
    num_heads: int = 2
    eps: float = 1e-5
    dropout: float | None = None
    act: str = "gelu"
    bias: bool = True
    shape: tuple[int, ...] = (1, 2)
    rope: FrozenDict[str, Any] | None = None

    def validate(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ConfigError(f"Toy: hidden_size = {self.hidden_size} is no multiple of num_heads")


LABELS = {"0": "no", "1": "yes", "2": "maybe"}


def test_reads_and_writes():
    values = {
        "hidden_size": 16,
        "eps": 1e-3,
        "shape": [3],
        "rope": {"a": [1, {"b": None}]},
        "bias": False,
    }
    config = Toy.from_dict(values | {"model_type": "toy"})
    assert (config.hidden_size, config.eps, config.shape) == (16, 1e-3, (3,))
    assert config.rope == FrozenDict({"a": (1, FrozenDict({"b": None}))})
    written = config.to_dict()
    assert {key: written[key] for key in values} == values and written["model_type"] == "toy"
    assert Toy.from_dict(written) == config
    assert Toy.from_dict(json.loads(config.to_json())) == config


def test_values_given_are_left_alone():
    values = {"n_embd": 4, "id2label": dict(LABELS), "rope": {"a": [1]}}
    before = copy.deepcopy(values)
    Toy.from_dict(values)
    assert values == before


def test_hash_and_equality():
    values = {"hidden_size": 16, "shape": [3], "rope": {"b": [1], "a": 2}, "n_ctx": [1]}
    one, two = Toy.from_dict(values), Toy.from_dict(dict(reversed(values.items())))
    assert one == two and hash(one) == hash(two) and len({one, two}) == 1
    assert one != one.replace(eps=0.5) and one != Toy() and Toy() == Toy()
    assert Toy(eps=1) == Toy(eps=1.0) == Toy(eps="1.0") and hash(Toy(eps=1)) == hash(Toy(eps=1.0))
    for copied in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert copied == one and hash(copied) == hash(one)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.hidden_size = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_replace_and_aliases():
    config = Toy.from_dict({"n_embd": 4})
    assert config.hidden_size == config.n_embd == 4
    assert config.replace(n_embd=6) == config.replace(hidden_size=6) == Toy(hidden_size=6)
    assert "n_embd" not in config.to_dict()
    assert config.replace() == config
    mine = Toy().replace(extra={"mine": 3})
    assert mine.mine == 3 and mine.to_dict()["mine"] == 3 and mine.replace(n_embd=4).mine == 3
    with pytest.raises(TypeError, match="Toy has no field 'hiden_size': did you mean hidden_size"):
        config.replace(hiden_size=3)
    with pytest.raises(AttributeError, match="Toy has no field 'hiden_size'"):
        _ = config.hiden_size
    with pytest.raises(ConfigError, match="hidden_size = 5 is no multiple"):
        config.replace(n_embd=5)
    assert Toy.knows("n_embd") and Toy.knows("hidden_size") and Toy.knows("torch_dtype")
    assert not Toy.knows("hiden_size")


def test_one_field_under_two_names():
    assert Toy.from_dict({"n_embd": 4, "hidden_size": 4}).hidden_size == 4
    with pytest.raises(ConfigError, match="hidden_size is given under two names, as 4 and as 6"):
        Toy.from_dict({"n_embd": 4, "hidden_size": 6})


WRONG = {  # field, value, what is said
    "C8-text": ("hidden_size", "4096", "hidden_size must be int, got '4096'"),
    "C8-half": ("hidden_size", 4096.5, "hidden_size must be int, got 4096.5"),
    "C8-bool": ("hidden_size", True, "hidden_size must be int, got True"),
    "C8-null": ("hidden_size", None, "hidden_size must be int, got None"),
    "C8-list": ("hidden_size", [4096], r"hidden_size must be int, got \(4096,\)"),
    "C8-alias": ("n_embd", "8", "hidden_size must be int, got '8'"),
    "C9-multiple": ("hidden_size", 7, "hidden_size = 7 is no multiple of num_heads"),
    "C11-negative": ("hidden_size", -8, "hidden_size is -8; it must be positive"),
    "C11-zero": ("num_heads", 0, "num_heads is 0; it must be positive"),
    "C11-huge": ("hidden_size", 10**12, "hidden_size is 1000000000000; it must be .*below 2"),
    "C13-text": ("eps", "small", "eps must be float, got 'small'"),
    "C13-empty": ("eps", "", "eps must be float, got ''"),
    "C13-nan": ("eps", float("nan"), "eps must be float, got nan"),
    "C13-nan-text": ("eps", "nan", "eps must be float, got 'nan'"),
    "C13-inf-text": ("eps", "-Infinity", "eps must be float, got '-Infinity'"),
    "C13-inf": ("eps", float("inf"), "eps must be float, got inf"),
    "C13-long-int": ("eps", 10**400, "eps must be float, got 1000"),
    "C13-long-int-text": ("eps", "1e999", "eps must be float, got '1e999'"),
    "C13-bool": ("eps", True, "eps must be float, got True"),
    "C13-null": ("eps", None, "eps must be float, got None"),
    "C13-nan-or-none": ("dropout", float("nan"), r"dropout must be float \| None, got nan"),
    "C13-dict": ("dropout", {}, r"dropout must be float \| None"),
    "str": ("act", 3, "act must be str, got 3"),
    "str-null": ("act", None, "act must be str, got None"),
    "bool-int": ("bias", 1, "bias must be bool, got 1"),
    "bool-text": ("bias", "true", "bias must be bool, got 'true'"),
    "tuple-int": ("shape", 3, r"shape must be tuple\[int, \.\.\.\], got 3"),
    "tuple-of-text": ("shape", [1, "2"], r"shape must be tuple\[int, \.\.\.\], got \(1, '2'\)"),
    "tuple-of-bool": ("shape", [True], "shape must be tuple"),
    "dict-list": ("rope", [1], "rope must be .*FrozenDict"),
    "eos-text": ("eos_token_id", "2", "eos_token_id must be int"),
    "eos-texts": ("eos_token_id", ["2"], "eos_token_id must be int"),
    "labels-int": ("id2label", 3, "id2label must be .*FrozenDict"),
    "labels-true": ("id2label", True, "id2label must be"),
    "labels-list": ("id2label", ["a"], "id2label must be"),
    "labels-lists": ("id2label", {"0": ["a"]}, "id2label must map numbers to labels, got the lab"),
    "labels-no-numbers": ("id2label", {"a": "b"}, "id2label must map numbers to labels"),
    "labels-count": ("num_labels", "3", "num_labels must be int, got '3'"),
    "C6-decoder": ("is_decoder", True, "is_decoder = True changes the model .*implemented: False"),
    "unsupported-list": ("parts", [1, 3], r"parts = \[1, 3\] changes the model"),
    "quantised": ("quantization_config", {"bits": 4}, "expected an object with quant_method"),
    "model-type": ("model_type", "bert", "reads model_type 'toy', config.json says 'bert'"),
    "model-type-null": ("model_type", None, "config.json says None"),
    "long": ("act", ["x" * 10**6], "act must be str"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_values_name_the_field(case):
    field, value, said = WRONG[case]
    with pytest.raises(ConfigError, match=f"Toy:? .*{said}|Toy:? {said}") as caught:
        Toy.from_dict({field: value})
    assert len(str(caught.value)) < 1000


FINE = [
    ("hidden_size", 4096.0, 4096),  # C8: to JSON the same number as 4096 and 4.096e3
    ("shape", [1e4, 2.0], (10_000, 2)),
    ("eps", "1e-5", 1e-5),  # YAML reads 1e-5 as text, so real files have it
    ("eps", 1, 1.0),
    ("dropout", None, None),
    ("dropout", 0, 0.0),
    ("dropout", "0.5", 0.5),
    ("eos_token_id", [1, 2], (1, 2)),
    ("eos_token_id", None, None),
    ("pad_token_id", -1, -1),
    ("shape", [], ()),
    ("is_decoder", False, False),
    ("parts", [1, 2], (1, 2)),
    ("quantization_config", None, None),
    ("rope", None, None),
]


@pytest.mark.parametrize(("field", "value", "read"), FINE)
def test_good_values(field, value, read):
    found = getattr(Toy.from_dict({field: value}), field)
    assert found == read and type(found) is type(read)


def test_labels():
    config = Toy.from_dict({"id2label": LABELS, "label2id": {"no": 0}})
    assert config.num_labels == 3 and config.id2label == FrozenDict(LABELS)
    written = config.to_dict()
    assert written["id2label"] == LABELS
    assert written["label2id"] == {"no": 0, "yes": 1, "maybe": 2}
    assert "num_labels" not in written and Toy.from_dict(written) == config
    written = Toy(num_labels=3).to_dict()
    assert written["num_labels"] == 3 and not {"id2label", "label2id"} & written.keys()
    assert Toy.from_dict(Toy(num_labels=3).to_dict()) == Toy(num_labels=3)
    assert Toy.from_dict({"id2label": {"5": "LABEL_5"}}).id2label == FrozenDict({"5": "LABEL_5"})
    assert Toy.from_dict({"id2label": {"0": "LABEL_1"}}).id2label == FrozenDict({"0": "LABEL_1"})
    assert "id2label" not in Toy().to_dict()
    assert config.replace(num_labels=5).id2label is None
    assert config.replace(num_labels=3).id2label == FrozenDict(LABELS)
    assert config.replace(id2label={0: "a"}).num_labels == 1
    assert config.replace(id2label=None).num_labels == 3
    with pytest.raises(ConfigError, match="id2label names 3 labels, num_labels is 2"):
        Toy(id2label=LABELS, num_labels=2)


def test_C17_unknown_keys_are_kept_with_a_warning():
    values = {
        "hidden_size": 8,
        "brand_new": {"a": [1]},
        "torch_dtype": "float16",
        "n_ctx": 7,
        "extra": 1,
    }
    with pytest.warns(UserWarning, match="Toy does not know 'brand_new', 'extra' of config.json"):
        config = Toy.from_dict(values)
    assert config.brand_new == FrozenDict({"a": (1,)}) and config.torch_dtype == "float16"
    written = config.to_dict()
    assert {key: written[key] for key in values} == values
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Toy.from_dict({"torch_dtype": "float99", "architectures": None, "auto_map": None})


def test_C17_very_many_unknown_keys():
    start = time.process_time()
    with pytest.warns(UserWarning, match=r"\(49990 more\)") as caught:
        config = Toy.from_dict({f"key{i}": i for i in range(50_000)})
    assert len(str(caught[0].message)) < 1000 and config.key7 == 7
    assert time.process_time() - start < 1.5


def test_C6_C7_C14_nothing_named_is_opened_imported_or_evaluated(monkeypatch):
    values = {
        "auto_map": {"AutoModel": "evil--code.Model"},
        "_name_or_path": "/etc/passwd",
        "_commit_hash": "../../x",
        "torch_dtype": "os.system",
        "dtype": {"x": 1},
    }
    here, modules, asked = threading.get_ident(), set(sys.modules), []

    def noted(name, function):
        def call(*args, **kwargs):
            if threading.get_ident() == here:  # the runner's threads do as they like
                asked.append((name, args[0]))
            return function(*args, **kwargs)

        return call

    with warnings.catch_warnings(record=True) as caught, monkeypatch.context() as patch:
        warnings.simplefilter("always")
        for name in ("open", "__import__", "eval", "exec", "compile"):
            patch.setattr(builtins, name, noted(name, getattr(builtins, name)))
        config = Toy.from_dict(values)
    new = [(name, what) for name, what in asked if name != "__import__" or what not in modules]
    assert new == [] and not {what for _, what in asked} & {"os", "evil", "evil--code"}
    assert "Toy: auto_map of config.json: remote code ignored" in str(caught[0].message)
    assert "auto_map" not in config.to_dict()
    assert config.to_dict()["_name_or_path"] == values["_name_or_path"]


def test_C6_what_names_code_is_said_to_be_ignored():
    code = {"custom_pipelines": {"x": {"impl": "evil.Pipeline"}}, "trust_remote_code": True}
    with pytest.warns(UserWarning, match="custom_pipelines, trust_remote_code of config.json: rem"):
        assert not code.keys() & Toy.from_dict(code).to_dict().keys()
    assert Toy.from_dict({"trust_remote_code": False}).trust_remote_code is False
    quantised = {"quantization_config": {"quant_method": "evil", "modules": "os.system"}}
    assert (
        Toy.from_dict(quantised).to_dict()["quantization_config"]
        == (quantised["quantization_config"])
    )  # a name, which is looked up in a table when weights are read


def nested(depth):
    return b'{"a":' * depth + b"1" + b"}" * depth


BAD_JSON = {
    "C2-deep": (nested(100_000), "nested too deeply"),
    "C2-long-number": (b'{"a":' + b"9" * 10**6 + b"}", "digits"),
    "C2-surrogate": (b'{"x":["\\ud800"]}', "half of a surrogate pair"),
    "C2-bom": (b"\xef\xbb\xbf{}", "it is UTF-8 with a BOM in front, .*again in plain UTF-8"),
    "C2-utf16": ('{"a":1}'.encode("utf-16"), "it is in UTF-16 or UTF-32, which Transf"),
    "C2-utf16-no-bom": ('{"a":1}'.encode("utf-16-le"), "it is in UTF-16 or UTF-32, which Transf"),
    "zeroed": (bytes(64), "Expecting value"),
    "C2-latin-1": (b'{"a":"\xe9"}', "it is no UTF-8 .*0xe9 in position 6"),
    "C2-twice": (b'{"a":1,"b":2,"a":1}', "'a' appears twice"),
    "C2-twice-inside": (b'{"x":{"a":1,"a":1}}', "'a' appears twice"),
    "C3-list": (b"[]", "expected a JSON object, got list"),
    "C3-string": (b'"x"', "expected a JSON object, got str"),
    "C3-null": (b"null", "expected a JSON object, got NoneType"),
    "C3-empty": (b"", "Expecting value"),
    "C3-not-json": (b"{'a': 1}", "property name"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_names_the_file(case, tmp_path):
    content, said = BAD_JSON[case]
    path = put(tmp_path, "config.json", content)
    for read in (read_json, Toy.from_json_file, Toy.from_pretrained):
        with pytest.raises(ConfigError, match=said) as caught:
            read(path)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 1000


def test_C2_many_keys_and_one_twice(tmp_path):
    content = "{" + "".join(f'"{i}":0,' for i in range(100_000)) + '"99999":0}'
    start = time.process_time()
    with pytest.raises(ConfigError, match="'99999' appears twice"):
        read_json(put(tmp_path, "config.json", content))
    assert time.process_time() - start < 2


@pytest.mark.parametrize("depth", [30, 62, 66, 400, 900, 2000])
def test_C2_nested_as_deep_as_json_goes(depth, tmp_path):
    """Kept, or refused by name; what can be read can be hashed and written."""
    path = put(tmp_path, "config.json", b'{"n_ctx":' + nested(depth) + b"}")
    try:
        config = Toy.from_json_file(path)
    except ConfigError as error:
        assert depth > 64 and "nested too deeply" in str(error)
        return
    assert depth < 64 and config == Toy.from_json_file(path)
    assert hash(config) == hash(Toy.from_json_file(path))
    assert json.loads(config.to_json())["n_ctx"] == json.loads(nested(depth))


def test_C1_huge_config(tmp_path):
    path = put(tmp_path, "config.json", "{}")
    os.truncate(path, 1 << 30)
    with pytest.raises(ConfigError, match="1073741824 bytes; a configuration has at most 16 MiB"):
        read_json(path)


def test_C17_very_many_values(tmp_path):
    path = put(tmp_path, "config.json", b'{"x":[' + b"[]," * 5_000_000 + b"[]]}")
    start = time.process_time()
    with pytest.raises(ConfigError, match="config.json: more than 250000 values"):
        read_json(path)
    assert time.process_time() - start < 1


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    for path, said in (
        (tmp_path / "fifo", "not a regular file"),
        (tmp_path, "not a regular file"),
        (os.devnull, "not a regular file"),
        (tmp_path / "gone", "No such file"),
        (tmp_path / "loop", "symbolic links"),
        (str(tmp_path) + "/a\0b", "null"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_json(path)


def test_folders(tmp_path):
    Toy(hidden_size=4).save_pretrained(tmp_path / "new" / "folder")
    path = tmp_path / "new" / "folder"
    assert (
        Toy.from_pretrained(path) == Toy.from_pretrained(path / "config.json") == Toy(hidden_size=4)
    )
    assert Toy.from_pretrained(path, n_embd=6).hidden_size == 6
    with pytest.raises(ConfigError, match="config.json"):
        Toy.from_pretrained(tmp_path)


TEXTS = st.text('a0_. "\\\n\0\x7fé\u2028\u202e\U0001f642', max_size=4)
"""Of few characters: hypothesis takes seconds to prepare for all."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@quick
@given(json_values)
def test_freeze_and_thaw_are_inverse(value):
    frozen = freeze(value)
    hash(frozen)
    assert thaw(frozen) == value


@quick
@given(
    st.dictionaries(
        st.sampled_from([f.name for f in dataclasses.fields(Toy)] + ["n_embd", "odd"]), json_values
    )
)
@pytest.mark.filterwarnings("ignore:Toy does not know", "ignore:Toy. .* Infinity or NaN")
def test_any_values_give_a_config_or_an_error(values):
    try:
        config = Toy.from_dict(values)
    except ConfigError:
        return
    assert Toy.from_dict(config.to_dict()) == config
    hash(config)


LLAMA = {
    "vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 64, "model_type": "llama",
}  # fmt: skip
LLAMA3 = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip

BAD_LLAMA = {
    "C9-heads": ({"hidden_size": 9}, "hidden_size = 9 is not a multiple of num_attention_heads"),
    "C9-kv-heads": (
        {"num_attention_heads": 4, "num_key_value_heads": 3},
        "num_key_value_heads = 3",
    ),
    "C12-theta-0": ({"rope_theta": 0}, "rope_theta = 0"),
    "C12-theta-negative": ({"rope_theta": -1.0}, "rope_theta = -1.0"),
    "C12-theta-text": ({"rope_theta": "10000"}, "rope_theta = '10000'"),
    "C12-type-unknown": (
        {"rope_scaling": {"rope_type": "magic", "factor": 2.0}},
        "rope_type 'magic'; implemented: ",
    ),
    "C12-factor-missing": ({"rope_scaling": {"type": "linear"}}, "'linear' lacks 'factor'"),
    "C12-factor-text": (
        {"rope_scaling": {"type": "linear", "factor": "2"}},
        "factor = '2'; expected a number",
    ),
    "C12-factor-0": ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor = 0"),
    "C12-one-per-kind": (
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6}}},
        "has 'full_attention' apart; implemented is one for all layers",
    ),
    "C12-llama3-incomplete": (
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        "'llama3' lacks 'low_freq_factor'",
    ),
    "C18-unknown": ({"hidden_act": "eval"}, "hidden_act = 'eval' is not implemented"),
    "C18-null": ({"hidden_act": None}, "hidden_act must be str, got None"),
    "C11-vocab-negative": ({"vocab_size": -1}, "vocab_size is -1"),
    "C11-vocab-huge": ({"vocab_size": 10**12}, "vocab_size is 1000000000000"),
    "C13-eps": ({"rms_norm_eps": "tiny"}, "rms_norm_eps must be float"),
    "C15-too-few": ({"layer_types": []}, r"layer_types is \(\); implemented is 'full_attention'"),
    "C15-too-many": ({"layer_types": ["full_attention"] * 2}, "layer_types is"),
    "C15-other": ({"layer_types": ["sliding_attention"]}, "layer_types is .'sliding_attention'"),
    "C15-text": ({"layer_types": "full_attention"}, "layer_types is 'full_attention'"),
}


@pytest.mark.parametrize("case", BAD_LLAMA)
def test_bad_llama_configs(case):
    values, said = BAD_LLAMA[case]
    with pytest.raises(ConfigError, match=said):
        fm.LlamaConfig.from_dict(LLAMA | values)


@pytest.mark.parametrize(
    ("values", "rope"),
    [
        ({}, {"rope_type": "default", "rope_theta": 10_000.0}),
        ({"rope_theta": 5e5}, {"rope_type": "default", "rope_theta": 5e5}),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0},
        ),
        (
            {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"rope_type": "llama3"}},
            {"rope_type": "llama3", "rope_theta": 5e5} | LLAMA3,
        ),
        (
            {"rope_parameters": LLAMA3 | {"rope_type": "llama3", "rope_theta": 5e5}},
            {"rope_type": "llama3", "rope_theta": 5e5} | LLAMA3,
        ),
        ({"rope_theta": 5e5, "rope_scaling": None}, {"rope_type": "default", "rope_theta": 5e5}),
    ],
)
def test_C12_rope_of_both_generations(values, rope):
    config = fm.LlamaConfig.from_dict(LLAMA | values)
    assert dict(config.rope_parameters) == rope
    assert hash(config) == hash(fm.LlamaConfig.from_dict(config.to_dict()))
    assert fm.LlamaConfig.from_dict(config.to_dict()) == config
    written = config.to_dict()
    assert written["rope_theta"] == rope["rope_theta"]  # for Transformers 4
    assert (written["rope_scaling"] is None) == (rope["rope_type"] == "default")
    assert written["rope_parameters"] == rope  # for 5


def test_C15_a_list_of_layers():
    values = LLAMA | {"layer_types": ["full_attention"]}
    config = fm.LlamaConfig.from_dict(values)
    assert config.to_dict()["layer_types"] == values["layer_types"]
    with pytest.raises(ConfigError, match="layer_types"):
        config.replace(num_hidden_layers=2)
    fm.GPT2Config.from_dict({"n_layer": 2, "layer_types": ["full_attention"] * 2})


def test_C11_very_many_layers_take_no_memory():
    tracemalloc.start()
    try:
        fm.LlamaConfig.from_dict(LLAMA | {"num_hidden_layers": 2**31 - 1})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_C13_a_real_eps():
    assert fm.LlamaConfig.from_dict(LLAMA | {"rms_norm_eps": "1e-05"}).rms_norm_eps == 1e-5


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hidden_size": "8"}, "hidden_size must be"),
        ({"num_attention_heads": "2"}, "num_attention_heads must be"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0; it must be positive"),
        ({"head_dim": 0}, "head_dim is 0; it must be positive"),
        ({"rope_scaling": "linear"}, "must be a mapping, got 'linear'"),
        ({"rope_scaling": ["x"]}, "must be a mapping, got"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0.0; it must be positive"),
        ({"attention_dropout": 2.0}, "attention_dropout is 2.0; it must be a probability"),
        ({"initializer_range": -1}, "initializer_range is -1.0; it must not be negative"),
        ({"rope_theta": float("inf")}, "rope_theta = inf"),
        ({"rope_theta": float("nan")}, "rope_theta = nan"),
    ],
)
def test_C8_C9_C12_C13_llama_values_out_of_range(values, said):
    with pytest.raises(ConfigError, match=said):
        fm.LlamaConfig.from_dict(values)


@pytest.mark.parametrize(
    ("value", "name"), [(Toy(), "config.json"), (fm.GenerationConfig(), "generation_config.json")]
)
def test_a_save_that_stops_leaves_the_old_file(value, name, tmp_path, monkeypatch):
    value.save_pretrained(tmp_path)
    before = (tmp_path / name).read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        value.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == before
