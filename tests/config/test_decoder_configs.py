"""Rope and layer types in configurations of decoders, against what the reference makes of the same
`config.json` (`scripts/goldens/files/_goldens_rope.py`)."""

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

import flaxmodels as fm
from flaxmodels import ConfigError, blocks
from flaxmodels.models.layer_types import (
    FULL,
    SLIDING,
    LayerKinds,
    LayerTypes,
    every,
)
from flaxmodels.models.rope_config import Rotary, one_rope

GOLDENS = Path(__file__).parent.parent / "goldens" / "rope"
CASES = {
    part: json.loads((GOLDENS / f"{part}.json").read_text())[part]
    for part in ("rotations", "turned", "patterns")
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common(LayerKinds, Rotary):
    derived: ClassVar = {
        "head_dim": lambda config: config.hidden_size // config.num_attention_heads
    }

    vocab_size: int = 8
    intermediate_size: int = 8
    hidden_size: int = 32
    num_attention_heads: int = 2
    num_key_value_heads: int = 2
    num_hidden_layers: int = 4
    max_position_embeddings: int = 64
    head_dim: Any = None
    pairs: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Windowed(Common):
    sliding_window: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Typed(Common, LayerTypes):
    sliding_window: int | None = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patterned(Typed):
    per_layer: ClassVar = {"layer_types": every("sliding_window_pattern")}
    sliding_window_pattern: int | None = 6


class Parts(Common):
    rope_rules: ClassVar = one_rope(partial_rotary_factor=0.5)


Gemma3 = fm.Gemma3TextConfig
SMALL = {"hidden_size": 32, "num_attention_heads": 2}  # heads of 16
FAMILIES = {
    "cohere": fm.CohereConfig,
    "cohere2": fm.Cohere2Config,
    "falcon": fm.FalconConfig,
    "gemma2": fm.Gemma2Config,
    "gemma3_text": Gemma3,
    "glm4": fm.Glm4Config,
    "gpt_neo": fm.GPTNeoConfig,
    "gpt_neox": fm.GPTNeoXConfig,
    "llama": Common,
    "ministral3": fm.Ministral3Config,
    "mistral": fm.MistralConfig,
    "olmo3": fm.Olmo3Config,
    "phi": fm.PhiConfig,
    "phi3": fm.Phi3Config,
    "qwen2": fm.Qwen2Config,
    "qwen3": fm.Qwen3Config,
    "smollm3": fm.SmolLM3Config,
    "stablelm": fm.StableLmConfig,
    "starcoder2": fm.Starcoder2Config,
}


def config_of(values):
    family = FAMILIES[values["model_type"]]
    sizes = ("intermediate_size", "num_key_value_heads")  # all files here have them
    left = [key for key in sizes if not family.knows(key)]
    return family.from_dict({k: v for k, v in values.items() if k not in ("model_type", *left)})


def rotation_of(config, name, positions):
    return blocks.rotary(
        config.rope_for(name),
        jnp.asarray([positions]),
        head_dim=config.head_dim,
        max_positions=config.max_position_embeddings,
        pairs=config.pairs if hasattr(config, "pairs") else config.style.rotate_pairs,
    )


@pytest.mark.parametrize("case", CASES["rotations"])
def test_rotations_are_the_references(case):
    golden = CASES["rotations"][case]
    written = config_of(golden["config"])
    for config in (written, type(written).from_dict(written.to_dict())):
        kinds = {kind.rotary for kind in config.layer_kinds} - {None}
        assert kinds == golden["rotations"].keys()
        for name, calls in golden["rotations"].items():
            for call in calls:
                rotation = rotation_of(config, name, call["positions"])
                for table, wanted in ((rotation.cos, call["cos"]), (rotation.sin, call["sin"])):
                    wanted = np.asarray(wanted)  # every angle twice
                    twice = "cohere" in golden["config"]["model_type"]
                    half = wanted[:, ::2] if twice else wanted[:, : wanted.shape[1] // 2]
                    np.testing.assert_allclose(table[0], half, atol=2e-5, err_msg=case)
        if factors := golden.get("query_factor"):
            factor = rotation_of(config, "default", factors["positions"]).query_factor
            np.testing.assert_allclose(factor[0], factors["factor"], rtol=1e-6)


@pytest.mark.parametrize("case", CASES["turned"])
def test_heads_turn_as_the_references(case):
    golden = CASES["turned"][case]
    values, at = golden["config"], golden["positions"]
    if case == "gptj":  # which has no rope_parameters, and a width of its own
        rotation = blocks.rotary(
            {"rope_type": "default", "rope_theta": 1e4},
            jnp.asarray([at]),
            head_dim=values["rotary_dim"],
            max_positions=64,
            pairs=True,
        )
    else:
        rotation = rotation_of(config_of(values), "default", at)
    x = jnp.sin(jnp.arange(len(at) * 2 * 16, dtype=jnp.float32)).reshape(1, -1, 2, 16)
    q, k = blocks.rotate(x, x, rotation)
    np.testing.assert_allclose(q[0], golden["out"], atol=1e-5)
    np.testing.assert_array_equal(q, k)


def test_only_queries_have_the_factor():
    rope = {"rope_type": "default", "rope_theta": 1e4, "llama_4_scaling_beta": 0.1}
    rope |= {"original_max_position_embeddings": 4}
    rotation = blocks.rotary(rope, jnp.asarray([[3, 4, 9]]), head_dim=8, max_positions=16)
    np.testing.assert_allclose(rotation.query_factor[0], 1 + 0.1 * np.log([1, 2, 3]), rtol=1e-6)
    q, k = blocks.rotate(*jnp.ones((2, 1, 3, 1, 8)), rotation)
    np.testing.assert_allclose(q, k * rotation.query_factor[:, :, None, None], rtol=1e-6)


@pytest.mark.parametrize("case", CASES["patterns"])
def test_layer_types_are_the_references(case):
    golden = CASES["patterns"][case]
    read = config_of(golden["config"])
    for config in (read, type(read).from_dict(read.to_dict()), read.replace(hidden_size=64)):
        assert [kind.attention for kind in config.layer_kinds] == golden["layer_types"]
        if SLIDING in golden["layer_types"]:
            window = golden["window"]
            if getattr(config, "use_bidirectional_attention", False):
                window -= 1  # the reference's is exclusive: a distance below it
            assert config.window(SLIDING) == window
        assert config.window(FULL) is None
        if rotating := golden.get("no_rope_layers"):
            assert [kind.rotary is not None for kind in config.layer_kinds] == [
                *map(bool, rotating)
            ]


def test_a_two_way_window_is_written_as_it_was_read():
    values = {"model_type": "gemma3_text", "sliding_window": 512, "num_hidden_layers": 6}
    config = config_of(values | {"use_bidirectional_attention": True})
    assert config.window(SLIDING) == 256  # the reference: distance < 512 // 2 + 1
    assert config.to_dict()["sliding_window"] == 512
    assert config.replace(hidden_size=64).window(SLIDING) == 256
    assert config.replace(use_bidirectional_attention=False).window(SLIDING) == 512


# --- what follows from what ---


def test_layer_types_follow_their_rule_until_they_are_given():
    config = Gemma3(num_hidden_layers=12)
    assert config.layer_types == ((SLIDING,) * 5 + (FULL,)) * 2
    assert config.replace(num_hidden_layers=2).layer_types == (SLIDING,) * 2
    assert config.replace(sliding_window_pattern=2).layer_types == (SLIDING, FULL) * 6
    own = config.replace(layer_types=[FULL] * 12)
    assert own.sliding_window_pattern is None  # of which Transformers 4.52 would make others
    assert own.replace(sliding_window=8).layer_types == (FULL,) * 12
    with pytest.raises(ConfigError, match="12 values for num_hidden_layers = 2; give one for each"):
        own.replace(num_hidden_layers=2)
    assert own.replace(num_hidden_layers=2, layer_types=None, sliding_window_pattern=2) == Gemma3(
        num_hidden_layers=2, sliding_window_pattern=2
    )


def test_an_own_list_outlives_other_changes():
    config = fm.SmolLM3Config(num_hidden_layers=3, no_rope_layers=[1, 0, 0])
    assert config.replace(hidden_size=64).no_rope_layers == (1, 0, 0)
    windowed = config.replace(use_sliding_window=True, sliding_window=8)
    assert windowed.layer_types == (FULL, SLIDING, SLIDING)
    assert windowed.replace(no_rope_layers=None).layer_types == (FULL,) * 3


WITH_DEFAULTS = sorted(
    {name for name in dir(fm) if name.endswith("Config")}
    - {"Config", "AutoConfig", "GenerationConfig", "EncoderDecoderConfig", "EsmConfig"}
)


# a window that was off is gone (the next test); a head that is untied has the states that it had
NOT_FOLLOWED = ("use_sliding_window", "tie_word_embeddings")


def test_a_field_that_followed_another_follows_its_change():
    """A change of the default configuration is what a constructor makes of it, in all families."""
    compared = 0
    for name in WITH_DEFAULTS:
        cls = getattr(fm, name)
        begun = cls()
        for field in dataclasses.fields(cls):
            if field.name in NOT_FOLLOWED or field.name.endswith("_token_id"):
                continue
            now = getattr(begun, field.name)
            value = {bool: lambda x: not x, int: lambda x: 2 * x}.get(type(now), lambda x: x)(now)
            try:
                made = cls(**{field.name: value})
            except ConfigError:
                continue
            assert begun.replace(**{field.name: value}) == made, (name, field.name)
            compared += value != now
    assert compared > 500
    own = fm.T5Config(num_layers=3, num_decoder_layers=2).replace(num_layers=5)
    assert own.num_decoder_layers == 2
    assert fm.T5Config().replace(num_layers=5, num_decoder_layers=6).num_decoder_layers == 6


def test_a_window_that_is_void_is_taken_away():
    config = fm.Qwen2Config(num_hidden_layers=4, sliding_window=8, max_window_layers=1)
    assert config.sliding_window is None and config.layer_types == (FULL,) * 4
    with pytest.raises(ConfigError, match="use_sliding_window is True: give its sliding_window"):
        config.replace(use_sliding_window=True)
    config = config.replace(use_sliding_window=True, sliding_window=8)
    assert config.layer_types == (FULL, SLIDING, SLIDING, SLIDING)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"layer_types": [FULL]}, "layer_types has 1 values for num_hidden_layers = 4; give one"),
        (
            {"layer_types": [FULL] * 3 + ["local"]},
            "has 'local' in layer 3; implemented: full_atten",
        ),
        ({"layer_types": [FULL, None, FULL, FULL]}, "layer_types must be tuple"),
        ({"layer_types": FULL}, "layer_types must be tuple"),
        ({"sliding_window": 0}, "sliding_window is 0; a window holds the token itself"),
        ({"sliding_window": -4}, "sliding_window is -4"),
        ({"sliding_window": 1 << 31}, r"below 2\*\*31"),
        ({"sliding_window": None}, "4 of layer_types are 'sliding_attention', and sliding_window"),
        ({"sliding_window_pattern": 0}, "sliding_window_pattern is 0; expected at least 1"),
        ({"num_hidden_layers": 1 << 30}, "a model whose layers differ has at most 1024"),
    ],
)
def test_bad_layer_types(given, said):
    with pytest.raises(ConfigError, match=said):
        Patterned(**given)
    with pytest.raises(ConfigError, match=said):
        Patterned.from_dict(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([["global"], 4], r"attention_types has 'global'|attention_types has \('global',\)"),
        ([[["global"], 4.5]], "expected .names, repeats."),
        ([[["global", 3], 2]], "expected .names, repeats."),
        ([[["global"], 3]], "is not of num_hidden_layers = 4 layers"),
        ([[["global"], 10**12]], "is not of num_hidden_layers = 4 layers"),
        ([[["global"], -4]], "is not of num_hidden_layers = 4 layers"),
        ([[["global", "near"], 2]], "attention_types has 'near'; implemented: global, local"),
    ],
)
def test_bad_attention_types(given, said):
    with pytest.raises(ConfigError, match=said):
        fm.GPTNeoConfig.from_dict({"num_layers": 4, "attention_types": given})


def test_older_names_of_layer_types():
    values = {"layer_types": ["attention", SLIDING, "attention", FULL]}
    assert Typed.from_dict(values).layer_types == (FULL, SLIDING, FULL, FULL)
    pattern = Patterned.from_dict({"_sliding_window_pattern": 2})
    assert pattern == Patterned(sliding_window_pattern=2)


def test_a_list_that_agrees_with_the_window_is_kept():
    values = {"sliding_window": 8, "layer_types": [SLIDING] * 4}
    assert Windowed.from_dict(values).to_dict()["layer_types"] == [SLIDING] * 4
    with pytest.raises(ConfigError, match="implemented is 'full_attention' in layer 0"):
        Windowed.from_dict(values | {"sliding_window": None})


# --- rope ---

LINEAR = {"rope_type": "linear", "factor": 2.0}


def test_callers_spell_one_rotation_of_several():
    config = Gemma3(num_hidden_layers=6, rope_theta=5.0, rope_local_base_freq=3.0)
    assert config.rope_theta == 5.0 and config.rope_local_base_freq == 3.0
    scaled = config.replace(rope_scaling=LINEAR)
    assert dict(scaled.rope_for(FULL)) == LINEAR | {"rope_theta": 5.0}
    assert scaled.rope_for(SLIDING) == config.rope_for(SLIDING)
    assert scaled.rope_scaling == LINEAR
    one = scaled.replace(rope_parameters={SLIDING: {"rope_theta": 7.0}})
    assert one.rope_local_base_freq == 7.0 and one.rope_for(FULL) == scaled.rope_for(FULL)
    assert scaled.replace(rope_local_base_freq=3.0) == scaled
    with pytest.raises(ConfigError, match="rope_local_base_freq is given twice"):
        Gemma3(rope_parameters={SLIDING: {"rope_theta": 7.0}}, rope_local_base_freq=8.0)


def test_keys_are_written_as_transformers_4_spelled_them():
    neox = fm.GPTNeoXConfig(rotary_pct=0.5, rope_theta=7.0).to_dict()
    assert (neox["rotary_pct"], neox["rotary_emb_base"]) == (0.5, 7.0)
    assert "rope_theta" not in neox and neox["rope_scaling"] is None
    gemma = Gemma3(num_hidden_layers=6, rope_scaling=LINEAR).to_dict()
    assert (gemma["rope_theta"], gemma["rope_local_base_freq"]) == (1e6, 1e4)
    assert gemma["rope_scaling"] == LINEAR
    assert gemma["rope_parameters"][SLIDING] == {"rope_type": "default", "rope_theta": 1e4}
    phi = fm.Phi3Config(
        **SMALL, partial_rotary_factor=0.5, original_max_position_embeddings=9
    ).to_dict()
    assert (phi["partial_rotary_factor"], phi["original_max_position_embeddings"]) == (0.5, 9)
    scaling = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    phi = fm.Phi3Config(**SMALL, rope_scaling=scaling | {"type": "su"}).to_dict()
    assert phi["rope_scaling"] == scaling  # of which Transformers 4 wants no key more
    assert phi["rope_parameters"]["rope_type"] == "longrope"


def test_rope_that_a_family_has_where_a_file_has_none():
    for config in (
        fm.Ministral3Config(),
        fm.Ministral3Config.from_dict({}),
        fm.Ministral3Config(rope_theta=1e6),
    ):
        assert config.rope_for("default")["factor"] == 16.0
    assert fm.Ministral3Config(rope_theta=3.0).rope_for("default")["llama_4_scaling_beta"] == 0.1
    plain = fm.Ministral3Config.from_dict(
        {"rope_parameters": {"rope_type": "default", "rope_theta": 3.0}}
    )
    assert dict(plain.rope_parameters) == {"rope_type": "default", "rope_theta": 3.0}
    # Transformers 5 writes a key that it does not read; no warning, which would be an error here
    noted = fm.Ministral3Config().to_dict()["rope_parameters"] | {"max_position_embeddings": 64}
    assert fm.Ministral3Config.from_dict({"rope_parameters": noted}) == fm.Ministral3Config()


def test_a_part_of_a_head():
    assert Parts.from_dict({}).rope_for("default")["partial_rotary_factor"] == 0.5
    config = Parts(partial_rotary_factor=0.2)  # of 16: 3, of which the reference turns 4
    rotation = rotation_of(config, "default", (1, 2))
    assert rotation.cos.shape == (1, 2, 2)
    x = jnp.ones((1, 2, 1, 16))
    np.testing.assert_array_equal(blocks.apply_rotary(x, rotation)[..., 4:], x[..., 4:])


@pytest.mark.parametrize(
    ("family", "given", "said"),
    [
        (Parts, {"partial_rotary_factor": 0.01}, "turns 0 of a head's 16 numbers"),
        (Parts, {"partial_rotary_factor": 1.5}, "partial_rotary_factor greater than 1"),
        (
            Parts,
            {"partial_rotary_factor": "half"},
            "partial_rotary_factor = 'half'; expected a numb",
        ),
        (Common, {"partial_rotary_factor": 0.5}, "'default' has partial_rotary_factor; only 'prop"),
        (Parts, {"head_dim": 15, "partial_rotary_factor": 1.0}, "needs an even head_dim, got 15"),
        (
            Parts,
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "partial_rotary_factor": 0.2},
            "'yarn' turns 3 of a head's 16 numbers.*an even number above 0",
        ),
        (
            fm.Phi3Config,
            {
                **SMALL,
                "rope_scaling": {"type": "su", "short_factor": [1.0] * 8, "long_factor": [1.0] * 8},
                "partial_rotary_factor": 0.75,
            },
            "expected 6 numbers, half of head_dim times partial_rotary_factor",
        ),
        (
            fm.Ministral3Config,
            {"rope_parameters": {"llama_4_scaling_beta": 0.1}},
            "has llama_4_scaling_beta, which needs original_max_position_embeddings",
        ),
        (Gemma3, {"rope_parameters": LINEAR}, "has 'rope_type', 'factor'; expected are parame"),
        (Gemma3, {"rope_parameters": {FULL: 3}}, "must be a mapping, got 3"),
        (
            Gemma3,
            {"rope_parameters": {FULL: {"rope_type": "spiral"}}},
            "rope_parameters of full_attention has",
        ),
        (Parts, {"rope_parameters": {FULL: {"rope_theta": 3.0}}}, "full_attention"),
    ],
)
def test_bad_rope(family, given, said):
    with pytest.raises(ConfigError, match=said):
        family(**given)
    with pytest.raises(ConfigError, match=said):
        family.from_dict(given)


# --- files ---


@pytest.mark.parametrize(
    ("family", "given", "said"),
    [
        (fm.GraniteConfig, {"logits_scaling": 0.0}, "logits_scaling is 0"),
        (fm.MistralConfig, {"layer_types": [FULL] * 32}, "'sliding_attention' in layer 0"),
        (fm.Qwen2Config, {"attention_bias": False}, "attention_bias = False changes the model"),
        (fm.Qwen2Config, {"use_mrope": True}, "use_mrope = True changes the model"),
        (fm.Qwen3Config, {"is_causal": False}, "is_causal = False changes the model"),
        (fm.SmolLM3Config, {"no_rope_layers": [1, 0]}, "2 values for num_hidden_layers = 36"),
        (fm.SmolLM3Config, {"token_classification_bias": False}, "changes the model"),
        (fm.Starcoder2Config, {"mlp_type": "gated"}, "mlp_type = 'gated' changes the model"),
    ],
)
def test_a_file_that_says_more_than_is_done_is_refused(family, given, said):
    with pytest.raises(ConfigError, match=said):
        family.from_dict(given)


def test_files_for_transformers_4_are_opened_without_a_warning():
    """Qwen 2.5 7B as it was published, and what a Mistral's may say."""
    qwen = fm.Qwen2Config.from_dict(
        {
            "architectures": ["Qwen2ForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": 151643,
            "eos_token_id": 151643,
            "hidden_act": "silu",
            "hidden_size": 3584,
            "initializer_range": 0.02,
            "intermediate_size": 18944,
            "max_position_embeddings": 131072,
            "max_window_layers": 28,
            "model_type": "qwen2",
            "num_attention_heads": 28,
            "num_hidden_layers": 28,
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "sliding_window": 131072,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.40.1",
            "use_cache": True,
            "use_mrope": False,
            "use_sliding_window": False,
            "vocab_size": 152064,
        }
    )
    assert qwen.window(SLIDING) is None and qwen.layer_types == (FULL,) * 28
    assert (qwen.head_dim, qwen.rope_theta) == (128, 1e6)
    mistral = fm.MistralConfig.from_dict(
        {"head_dim": None, "rope_theta": 1e6, "rope_scaling": None, "sliding_window": None}
    )
    assert mistral.head_dim == 128 and mistral.layer_kinds[0].attention == FULL
    assert fm.MistralConfig.from_dict({"rope_theta": 1e4}).window(SLIDING) == 4096
