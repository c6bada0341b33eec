"""Models in GGUF files: configuration, names and layout, what the converter did undone; against
Transformers, and what a file gets whose metadata lie."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from _files import put
from _gguf import ARRAY, BOOL, F32, I32, STRING, U32, array, llama
from _paths import GOLDENS
from _turns import some_of

import flaxmodels as fm
from flaxmodels import gguf
from flaxmodels import params as fp
from flaxmodels.convert import convert
from flaxmodels.gguf.architectures import ARCHITECTURES
from flaxmodels.params.formats.gguf import Array, Metadata, open_gguf

FILES = GOLDENS / "gguf"
EXPECTED = json.loads((FILES / "expected.json").read_text())["configs"]
IDS = np.random.default_rng(1).integers(0, 48, (2, 9))
_SAVED = ("architectures", "dtype", "transformers_version", "use_cache")


def test_every_architecture_has_a_golden():
    named = {case.partition("-")[0] for case in EXPECTED}
    assert named == ARCHITECTURES.keys()
    assert all(hasattr(fm, row.model_class) for row in ARCHITECTURES.values())


CLASSES = {"t5": fm.AutoModelForSeq2SeqLM, "t5encoder": fm.T5EncoderModel}


def of_case(case: str, **options):
    cls = CLASSES.get(case.partition("-")[0], fm.AutoModelForCausalLM)
    return cls.from_pretrained(FILES, gguf_file=f"{case}.gguf", **options)


@pytest.mark.parametrize("case", EXPECTED)
def test_config(case):
    config = fm.AutoConfig.from_pretrained(FILES / f"{case}.gguf")
    wanted = type(config).from_dict(EXPECTED[case])
    said = wanted.to_dict() | {"num_kv_heads": getattr(config, "num_kv_heads", None)}
    unread = {*_SAVED, *wanted.extra}
    if case == "llama-rope":  # the factors themselves, not what they follow from
        unread |= {"rope_parameters", "rope_scaling"}
        assert config.rope_parameters["rope_type"] == "longrope"
    if case.startswith("t5"):  # Transformers 5 says that all are, and the file has a head
        unread |= {"tie_word_embeddings"} | ({"scale_decoder_outputs"} if "enc" in case else set())
    found = config.to_dict()
    assert {k: v for k, v in found.items() if k not in unread} == {
        k: v for k, v in said.items() if k in found and k not in unread
    }


@pytest.mark.parametrize("case", EXPECTED)
def test_names(case):
    match = fm.load_plan(FILES / f"{case}.gguf").match
    assert not (match.missing or match.unexpected or match.mismatched or match.said)


@some_of("case", [*EXPECTED], "llama", "gpt2", "bloom", "gemma2", "t5encoder")
def test_logits(case):
    model, params = of_case(case)
    more = {"decoder_input_ids": IDS[:, ::2]} if case in ("t5", "t5-umt5") else {}
    out = jax.jit(model.apply)({"params": params}, IDS, **more)
    found = out.last_hidden_state if case == "t5encoder" else out.logits
    with np.load(FILES / "logits.npz") as logits:
        np.testing.assert_allclose(found, logits[case], atol=1e-4)


def test_as_numbers():
    """`dequantize=True` gives arrays, of the numbers that the packed weights stand for."""
    packed, dense = of_case("gpt2")[1], of_case("gpt2", dequantize=True)[1]
    assert all(isinstance(leaf, jax.Array) for leaf in fp.flatten(dense).values())
    held = fp.flatten(packed)
    assert any(hasattr(leaf, "form") for leaf in held.values())
    for path, leaf in fp.flatten(dense).items():
        other = jax.device_get(held[path])  # NumPy compiles nothing
        other = other.dense() if hasattr(other, "form") else other
        assert np.asarray(other).tobytes() == np.asarray(leaf).tobytes(), path


def test_ways_to_name_a_file(tmp_path):
    path = FILES / "qwen2.gguf"
    config = fm.AutoConfig.from_pretrained(FILES, gguf_file="qwen2.gguf")
    assert config == fm.Qwen2Config.from_pretrained(path)
    plan = fm.load_plan(path)
    assert plan.match.source.where == str(path) and not plan.match.missing
    model, _ = fm.Qwen2ForCausalLM.from_pretrained(path, config=config)
    assert model.config == config
    with pytest.raises(TypeError, match="give gguf_file or variant, not both"):
        of_case("qwen2", variant="fp16")
    for name in ("no.gguf", "../gguf/qwen2.gguf"):
        with pytest.raises(fm.CheckpointError, match="no file"):
            fm.AutoModel.from_pretrained(FILES, gguf_file=name)
    with pytest.raises(fm.ConfigError, match="LlamaConfig reads model_type 'llama'.*'qwen2'"):
        fm.LlamaForCausalLM.from_pretrained(path)
    put(tmp_path, "x-q4.gguf", llama())
    with pytest.raises(fm.ConfigError, match="files of GGUF: give gguf_file='x-q4.gguf'"):
        fm.AutoModel.from_pretrained(tmp_path)
    with pytest.raises(fm.CheckpointError, match="that of a GGUF file is not read"):
        fm.load_tokenizer(tmp_path / "x-q4.gguf")


def test_a_file_is_not_converted_by_its_own_names(tmp_path):
    with pytest.raises(fm.CheckpointError, match="is not converted tensor by tensor; write model"):
        convert(FILES / "qwen2.gguf", tmp_path / "new")
    assert not any(tmp_path.iterdir())


def test_scaling_of_rope(tmp_path):
    def rope(**keys):
        path = put(tmp_path, "x.gguf", llama({f"llama.rope.{k}": v for k, v in keys.items()}))
        return fm.AutoConfig.from_pretrained(path).rope_parameters

    theta = {"rope_theta": 10_000.0}
    factor = {"scaling.factor": (F32, 4.0)}
    assert rope() == {"rope_type": "default"} | theta
    assert rope(**{"freq_base": (F32, 5e5)})["rope_theta"] == 5e5
    assert rope(**factor) == {"rope_type": "linear", "factor": 4.0} | theta
    assert rope(**factor, **{"scaling.type": (STRING, "none")})["rope_type"] == "default"
    yarn = {"scaling.type": (STRING, "yarn"), "scaling.original_context_length": (U32, 8)}
    assert rope(**factor, **yarn) == theta | {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 8,
    }
    found = rope(**factor, **yarn, **{"scaling.attn_factor": (F32, 0.5)})["attention_factor"]
    assert found == pytest.approx(0.5 * (1 + 0.1 * np.log(4)))


def test_biases_of_a_llama(tmp_path):
    biases = {
        f"blk.0.attn_{name}.bias": (2 * size,) for name, size in zip("qkv", (2, 1, 1), strict=True)
    }
    path = put(tmp_path, "x.gguf", llama(shapes=biases | {"blk.0.attn_output.bias": (4,)}))
    model, params = fm.AutoModelForCausalLM.from_pretrained(path)
    assert model.config.attention_bias and not model.config.mlp_bias
    assert params["model"]["layers"]["0"]["self_attn"]["q_proj"]["bias"].shape == (4,)


def test_windows_by_layer():
    """One number for all layers, or a bool for each of them."""
    opened = open_gguf(str(FILES / "gemma3.gguf"))
    assert gguf.config_of(opened)["sliding_window_pattern"] == 6
    file = opened.tensors["output_norm.weight"].spans[0].file
    there = Array(file, BOOL, 6, 0, 6)
    bits = [file.read(0, 6)[i] != 0 for i in range(6)]
    keys = dict(opened.metadata) | {"gemma3.attention.sliding_window_pattern": there}
    changed = dataclasses.replace(opened, metadata=Metadata(opened.path, keys))
    found = gguf.config_of(changed)["layer_types"]
    assert found == [f"{'sliding' if bit else 'full'}_attention" for bit in bits]


def lying(**keys) -> bytes:
    return llama({key.replace("__", "."): row for key, row in keys.items()})


BAD = {
    "none": (lying(general__architecture=None), "no key 'general.architecture'"),
    "unknown": (llama(name="mamba"), "the architecture 'mamba', which is not read; read are llama"),
    "another": (llama(name="qwen2"), "no key 'qwen2.embedding_length'|no key 'qwen2"),
    "number": (
        lying(general__architecture=(U32, 1)),
        "'general.architecture' is '1', expected a s",
    ),
    "no-layers": (lying(llama__block_count=None), "no key 'llama.block_count'"),
    "layers": (lying(llama__block_count=(U32, 2**30)), "the config has 1073741824 layers"),
    "layers-text": (
        lying(llama__block_count=(STRING, "1")),
        "'llama.block_count' is '1', expected",
    ),
    "layers-few": (
        llama(shapes={"blk.1.attn_norm.weight": (4,)}),
        "no place for 1 tensors.*layers.1",
    ),
    "layers-more": (lying(llama__block_count=(U32, 2)), "9 leaves of the model are not in the che"),
    "minus": (lying(llama__block_count=(I32, -1)), "'llama.block_count' is '-1', expected"),
    "width": (lying(llama__embedding_length=(U32, 8)), "tensors do not fit"),
    "width-0": (lying(llama__embedding_length=(U32, 0)), "hidden_size|head_dim"),
    "heads-0": (
        lying(llama__attention__head_count=(U32, 0)),
        "'llama.attention.head_count' is '0'",
    ),
    "heads-odd": (lying(llama__attention__head_count=(U32, 3)), "multiple of|head_dim|rope"),
    "heads-list": (
        lying(llama__attention__head_count_kv=(ARRAY, array(I32, [1]))),
        "'llama.attention.head_count_kv' is an array of 1, expected an integer",
    ),
    "heads-many": (
        lying(llama__attention__head_count_kv=(U32, 2**31)),
        "num_key_value_heads is 2147483648",
    ),
    "values": (lying(llama__attention__value_length=(U32, 4)), "value_length' is '4'; read is 2"),
    "experts": (
        lying(llama__expert_count=(U32, 8)),
        "expert_count' is '8'; read is a model without",
    ),
    "eps": (
        lying(llama__attention__layer_norm_rms_epsilon=(F32, float("nan"))),
        "is 'nan', expected a finite number",
    ),
    "theta": (lying(llama__rope__freq_base=(F32, -1.0)), "rope_theta"),
    "turning": (lying(llama__rope__dimension_count=(U32, 4)), "tensors do not fit"),
    "scaling": (lying(llama__rope__scaling__type=(STRING, "su")), "scaling.type' is 'su'; read is"),
    "scaling-key": (
        lying(llama__rope__scaling__x=(F32, 1.0)),
        "rope.scaling.x' is '1.0'; read is no",
    ),
    "factors": (
        llama(shapes={"rope_freqs.weight": (3,)}),
        r"'rope_freqs.weight' is float32 of shape \(3,\), expected float32 of shape \(1,\)",
    ),
    "factors-zero": (llama(shapes={"rope_freqs.weight": (1,)}), "rope_parameters"),
    "factors-twice": (
        llama({"llama.rope.scaling.factor": (F32, 2.0)}, {"rope_freqs.weight": (1,)}),
        "rope.scaling.factor' is '2.0'; read is 1, beside tensors of factors",
    ),
    "factors-short": (
        llama(shapes={"rope_factors_short.weight": (1,)}),
        "'rope_factors_short.weight'; expected 'rope_freqs.weight' alone",
    ),
    "vocabulary": (lying(llama__vocab_size=(U32, 2**30)), "tensors do not fit"),
    "no-table": (llama(shapes={"token_embd.weight": None}), "no matrix 'token_embd.weight'"),
    "rows": (llama(shapes={"blk.0.attn_q.weight": (3, 4)}), "has 3 rows, expected a multiple of 4"),
    "odd-tensor": (
        llama(shapes={"blk.0.x.weight": (1,)}),
        "no place for 1 tensors: 'model.blk.0.x.w",
    ),
    "odd-name": (llama(shapes={"x": (1,)}), "no place for 1 tensors: 'model.x'"),
    "twice": (
        llama(shapes={"blk.00.ffn_norm.weight": (4,)}),
        "two tensors are model.layers.0.post_attention_layernorm.weight, 'blk.00",
    ),
    "missing": (llama(shapes={"blk.0.ffn_up.weight": None}), "up_proj/kernel"),
    "integers": (
        lying(tokenizer__ggml__eos_token_id=(F32, 1.0)),
        "'tokenizer.ggml.eos_token_id' is",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_metadata_that_lie(case, tmp_path):
    content, message = BAD[case]
    path = put(tmp_path, "x.gguf", content)
    with pytest.raises((fm.CheckpointError, fm.ConfigError), match=message) as caught:
        fm.AutoModelForCausalLM.from_pretrained(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 2000


def test_a_whole_file_of_the_builder_is_read(tmp_path):
    _, params = fm.AutoModelForCausalLM.from_pretrained(put(tmp_path, "x.gguf", llama()))
    assert fp.num_parameters(params) == 5 * 4 + 4 * (4 + 2 + 2 + 4) + 3 * 24 + 12


def test_rows_are_read_as_they_lie():
    """Of a permutation over a whole tensor, as BLOOM's, a few rows read no more than a few."""
    source = gguf.source_of(open_gguf(str(FILES / "bloom.gguf")))
    tensor = source["transformer.h.0.self_attention.query_key_value.weight"]
    before = source.bytes_read
    tensor.read(((0, 12), (0, 32)))
    assert source.bytes_read - before <= 2 * 4 * 12 * 34
