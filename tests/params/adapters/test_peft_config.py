"""`adapter_config.json`: read, refused, kept, and written as PEFT does; which modules it means."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from flaxmodels.params import CheckpointError
from flaxmodels.params.adapters.peft import patterns, targets
from flaxmodels.params.adapters.peft.config import PeftConfig, read_config
from flaxmodels.params.adapters.peft.keys import KEPT, METHODS, NAMES
from flaxmodels.params.adapters.peft.values import CHECKS

GOLDENS = Path(__file__).parents[2] / "goldens" / "peft"
FOLDERS = sorted(path.name for path in GOLDENS.iterdir())
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}


def config(**values):
    return PeftConfig.from_dict(LORA | values, "x/adapter_config.json")


@pytest.mark.parametrize("name", FOLDERS)
def test_what_peft_wrote_is_written_again(name):
    raw = json.loads((GOLDENS / name / "adapter_config.json").read_text())
    it = read_config(GOLDENS / name)
    assert json.loads(it.text()) == raw
    assert PeftConfig.from_dict(it.to_dict()) == it
    assert hash(it) == hash(read_config(GOLDENS / name / "adapter_config.json"))


def test_a_new_configuration_has_the_keys_that_peft_writes():
    for method in METHODS:
        made = PeftConfig(peft_type=method)
        assert made.to_dict().keys() == {*NAMES[method], *KEPT[method]}
        assert {*NAMES[method].values()} <= CHECKS.keys()
    wrote = json.loads((GOLDENS / "lora_llama" / "adapter_config.json").read_text())
    assert PeftConfig().to_dict().keys() == wrote.keys()


def test_unknown_keys_are_kept_with_a_word():
    with pytest.warns(UserWarning, match=r"adapter_config.json: 'new_trick' is nothing that PEFT"):
        it = config(new_trick={"a": 1}, other=None)
    assert it.to_dict()["new_trick"] == {"a": 1} and "other" in it.to_dict()


REFUSED = {
    "peft_type is 'VERA'; adapters of LORA, LOHA": {"peft_type": "VERA"},
    "peft_type is 'PROMPT_TUNING'": {"peft_type": "PROMPT_TUNING"},
    "peft_type is 'None'": {"peft_type": None},
    "layer_replication is": {"layer_replication": [[0, 4], [2, 5]]},
    "target_parameters .* experts, is not done here; merge it": {"target_parameters": ["up"]},
    "use_qalora is 'True': QA-LoRA": {"use_qalora": True},
    "alora_invocation_tokens": {"alora_invocation_tokens": [1]},
    "init_lora_weights is 'pissa_niter_4': .* relative to a base": {
        "init_lora_weights": "pissa_niter_4"
    },
    "init_lora_weights is 'olora'": {"init_lora_weights": "olora"},
    "r is 0; expected a whole number from 1": {"r": 0},
    'r is "8"; expected': {"r": "8"},
    "r is True": {"r": True},
    "r is 1048577": {"r": (1 << 20) + 1},
    "lora_alpha is inf; expected a finite number": {"lora_alpha": float("inf")},
    "use_dora is 1; expected true or false": {"use_dora": 1},
    'bias is "some"; expected one of none, all, lora_only': {"bias": "some"},
    r"target_modules is \{\}; expected a list of names": {"target_modules": {}},
    r"target_modules is \[3\]": {"target_modules": [3]},
    "rank_pattern: 'q' is -1; expected a whole number": {"rank_pattern": {"q": -1}},
    "alpha_pattern is .* expected an object": {"alpha_pattern": ["q"]},
    "layers_to_transform is .* expected whole numbers": {"layers_to_transform": ["1"]},
    "regular expression, which layers_to_transform": {
        "target_modules": "x",
        "layers_to_transform": [1],
    },
    "layers_pattern without layers_to_transform": {"layers_pattern": "h"},
    "use_dora and lora_bias": {"use_dora": True, "lora_bias": True},
    "trainable_token_indices is .* expected a list of different rows": {
        "trainable_token_indices": [1, 1]
    },
    "trainable_token_indices: 'wte' is": {"trainable_token_indices": {"wte": [-1]}},
    'task_type is "CHAT"': {"task_type": "CHAT"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_changes_the_mathematics_or_is_of_the_wrong_kind_is_refused(message):
    with pytest.raises(CheckpointError, match=f"^x/adapter_config.json: .*{message}"):
        config(**REFUSED[message])


OF_CALLERS = {
    "r is 0; expected a whole": {"r": 0},
    "r is 2.0; expected": {"r": 2.0},
    "alpha is nan": {"alpha": float("nan")},
    "lora_dropout is 1.5; expected a share": {"lora_dropout": 1.5},
    'bias is "lora"; expected one of none': {"bias": "lora"},
    'peft_type is "lora"; expected one of LORA': {"peft_type": "lora"},
    "rank_pattern: 'q' is 0": {"rank_pattern": (("q", 0),)},
    "rank_pattern is .* expected": {"rank_pattern": ("q", 3)},
    "target_modules is .*; expected a list of names": {"target_modules": object()},
    "extra: init_lora_weights is 'pissa'": {"extra": {"init_lora_weights": "pissa"}},
    "use_dora and lora_bias": {"use_dora": True, "lora_bias": True},
}


@pytest.mark.parametrize("message", OF_CALLERS)
def test_fields_that_a_caller_gives_are_checked_as_keys_of_files_are(message):
    with pytest.raises(ValueError, match=f"^PeftConfig: .*{message}"):
        PeftConfig(**OF_CALLERS[message])


def test_fields_may_be_given_as_python_and_numpy_have_them():
    given = {"target_modules": {"q", "k"}, "rank_pattern": {"q": np.int64(3)}, "r": np.int32(2)}
    made = PeftConfig(**given, layers_to_transform=[1], trainable_token_indices={"wte": [1]})
    pairs = {"rank_pattern": (("q", 3),), "trainable_token_indices": (("wte", (1,)),)}
    assert made == PeftConfig(target_modules=("k", "q"), r=2, layers_to_transform=(1,), **pairs)
    assert hash(made) and type(made.r) is int


HOSTILE = {
    "deep": b'{"peft_type":' + b"[" * 100_000,
    "infinity": b'{"peft_type": "LORA", "lora_alpha": Infinity}',
    "huge": b'{"peft_type": "LORA", "lora_alpha": 1e999}',
    "digits": b'{"peft_type": "LORA", "r": ' + b"9" * 5000 + b"}",
    "twice": b'{"peft_type": "LORA", "peft_type": "IA3"}',
    "a pattern": b'{"peft_type": "LORA", "target_modules": "("}',
    "a pattern of ranks": b'{"peft_type": "LORA", "rank_pattern": {"(?<=a)b": 2}}',
    "a list": b"[]",
    "a text": b'"LORA"',
    "no UTF-8": b'{"\xff": 1}',
    "a mark": b'\xef\xbb\xbf{"peft_type": "LORA"}',
    "spaces": b" " * (5 << 20),
    "html": b"<!DOCTYPE html>",
    "empty": b"",
    "a tuple of code": b"cos\nsystem\n(S'touch canary'\ntR.",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_with_their_name(tmp_path, case):
    (tmp_path / "adapter_config.json").write_bytes(HOSTILE[case])
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        read_config(tmp_path)
    assert time.perf_counter() - start < 2


# --- targets ---

Q = "model.layers.3.self_attn.q_proj"


def test_targets_are_chosen_as_peft_chooses_them():
    def chosen(name, **values):
        return targets.is_targeted(config(**values), name)

    assert chosen(Q) and not chosen("model.layers.3.self_attn.my_q_proj")
    assert chosen(Q, target_modules=["self_attn.q_proj"]) and chosen(Q, target_modules=[Q])
    assert chosen(Q, target_modules=r".*\.(q|v)_proj") and not chosen(Q, target_modules="q_proj")
    assert not chosen(Q, exclude_modules=["layers.3.self_attn.q_proj"])
    assert not chosen(Q, exclude_modules=r".*\.3\..*")
    assert not chosen(Q, modules_to_save=["self_attn"])
    assert chosen(Q, layers_to_transform=[3]) and not chosen(Q, layers_to_transform=2)
    assert chosen(Q, target_modules=[Q], layers_to_transform=[2])  # named whole
    assert chosen(Q, layers_to_transform=[3], layers_pattern="layers")
    assert not chosen(Q, layers_to_transform=[3], layers_pattern=["h", "blocks"])
    assert not chosen("h.3.q_proj", layers_to_transform=[3])  # nothing before the list
    assert chosen("h.3.q_proj", layers_to_transform=[3], layers_pattern="h")


def test_ranks_and_scales_follow_patterns():
    it = config(rank_pattern={"^model.*q_proj": 8, "q_proj": 4}, alpha_pattern={"3.*q_proj": 2})
    assert targets.rank_of(it, Q) == 8 and targets.scale_of(it, Q) == 2 / 8
    assert targets.rank_of(it, "h.q_proj") == 4 and targets.rank_of(it, "h.my_q_proj") == 2
    root = config(use_rslora=True, r=16, lora_alpha=3)
    assert targets.scale_of(root, Q) == 3 / 4


PATTERNS = (
    r".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",
    r"^model\.layers\.\d+\..*(q|k|v)_proj$",
    r"(?:.*?(?:self_attn|mlp).*?(?:q_proj|up).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:q_proj))",
    r"[^.]*",
    r"(\w+\.)*\w+",
    r"(x?)*",
    r"",
    r".{5,31}",
    r"^(?!.*(?:lm_head|\bup)\b).*(?=\.)[.\w]*(?:q_proj|q)$",
    r"(?=.*\.)[\w.]*(?!x)",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_as_those_of_python(pattern):
    for name in (Q, "lm_head", "", "a.b", "encoder.decoder.0.SelfAttention.q", "h.0.mlp.up"):
        assert patterns.fullmatch(pattern, name) == bool(re.fullmatch(pattern, name)), name


BOMBS = ("(.+)+x", "(((((.*)*)*)*)*)*x", "((((.{999}|){999}){999}){999}){999}", ".*" * 60 + "x")


@pytest.mark.parametrize("pattern", BOMBS)
def test_no_pattern_takes_long(pattern):
    start = time.perf_counter()
    assert not patterns.fullmatch(pattern, Q * 4 + "\n")
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "pattern",
    [
        "(?<=a)a",
        "(?=(?=a)a)a",
        r"(a)\1",
        "(",
        "(?i)a",
        "(" * 3000 + ")" * 3000,
        "a" * 5000,
        ".*" * 65,
        "(?>a)",
    ],
)
def test_patterns_that_are_not_followed_are_refused(pattern):
    with pytest.raises(CheckpointError, match="pattern|regular expression|followed|repeats"):
        patterns.fullmatch(pattern, "a")
