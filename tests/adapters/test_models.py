"""Adapters of models: by the names that PyTorch has for modules, in training and in generation."""

import functools

import jax
import numpy as np
import pytest
from _drawn import applied, params_of
from _paths import LLAMA

import flaxmodels as fm
from flaxmodels import params as fp

IDS = np.array([[5, 7, 11, 3], [9, 20, 4, 8]])
LORA = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj", "down_proj"]}
SIZES = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@functools.cache
def llama(scan=False):
    return fm.LlamaForCausalLM.from_pretrained(LLAMA, scan_layers=scan, progress=False)


def moved(params, seed=0):
    trained, rest = fp.split_adapters(params)
    random = np.random.default_rng(seed)
    return fp.join_adapters(
        jax.tree.map(
            lambda x: np.asarray(x) + np.float32(0.3) * random.standard_normal(x.shape, np.float32),
            trained,
        ),
        rest,
    )


def targets(model, config):
    template = model.abstract_params()
    return sorted(fp.get_adapters(model.add_adapter(template, config), "default"))


def test_P12_rules_see_the_names_that_pytorch_has():
    phi3 = fm.Phi3ForCausalLM(fm.Phi3Config(**SIZES, intermediate_size=16, pad_token_id=0))
    fused = {**LORA, "target_modules": ["qkv_proj"], "layers_to_transform": 1}
    attention = [f"model/layers/1/self_attn/{x}_proj/kernel" for x in "kqv"]
    assert targets(phi3, fused) == attention
    stacked = targets(phi3.clone(scan_layers=True), fused)
    assert stacked == [path.replace("/1/", "/") for path in attention]
    model, _ = llama()
    assert "lm_head/kernel" not in targets(model, None)
    assert len(targets(model, {**LORA, "target_modules": "all-linear"})) == 2 * 7
    gpt2 = fm.GPT2LMHeadModel(
        fm.GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    )
    tied = {**LORA, "target_modules": ["wte", "c_attn"]}
    made = fp.get_adapters(gpt2.add_adapter(gpt2.abstract_params(), tied), "default")
    assert sorted(made) == ["transformer/h/0/attn/c_attn/kernel", "transformer/wte/embedding"]
    assert [made[path].part for path in sorted(made)] == ["all", "lookup"]
    made = gpt2.add_adapter(gpt2.abstract_params(), {**tied, "ensure_weight_tying": True})
    assert fp.get_adapters(made, "default")["transformer/wte/embedding"].part == "all"


def test_P12_what_transformers_has_methods_for():
    model, params = llama()
    one = model.add_adapter(params, LORA, "one")
    both = model.add_adapter(moved(one), {**LORA, "r": 3}, "two", key=jax.random.key(1))
    assert model.active_adapters(both) == ["one", "two"]
    assert model.active_adapters(model.set_adapter(both, "two")) == ["two"]
    assert model.active_adapters(model.disable_adapters(both)) == []
    assert fp.diff(model.enable_adapters(model.disable_adapters(both)), both).equal
    assert fp.diff(model.delete_adapter(both, "two"), moved(one)).equal
    assert fp.adapter_names(model.merge_adapter(both)) == ()
    kept = model.merge_adapter(both, "one", keep=True)
    assert fp.adapter_names(model.unmerge_adapter(kept)) == ("one", "two")


@pytest.mark.parametrize("scan", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_each_prompt_is_continued_with_its_own_adapter(scan):
    model, params = llama(scan)
    one = moved(model.add_adapter(params, LORA, "one"), 1)
    two = moved(model.add_adapter(params, {**LORA, "use_dora": True}, "two"), 2)
    both = fp.attach(one, "two", fp.get_adapters(two, "two"))

    def tokens(params):
        return np.asarray(model.generate(params, IDS, max_new_tokens=4).sequences)

    # By one program: what a bank computes is compared in tests/params/adapters.
    bank = fp.stack_adapters(both)
    choices = (["two", "one"], ["two", "two"], ["one", "one"])
    found, twos, ones = (tokens(fp.choose_adapters(bank, choice)) for choice in choices)
    assert found[0].tolist() == twos[0].tolist() != ones[0].tolist()
    assert found[1].tolist() == ones[1].tolist() != twos[1].tolist()


def test_dropout_acts_in_steps_of_training_alone():
    model, params = llama()
    params = moved(model.add_adapter(params, {**LORA, "lora_dropout": 0.5}))

    @jax.jit
    def train(key):
        how = {"deterministic": False, "rngs": {"dropout": key}}
        return model.apply({"params": params}, IDS, **how).logits

    first, again, other = (train(jax.random.key(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.allclose(first, other, atol=1e-3)

    def traced(**how):
        return str(
            jax.make_jaxpr(lambda params: model.apply({"params": params}, IDS, **how))(params)
        )

    assert traced(rngs={"dropout": jax.random.key(1)}) == traced()
    with pytest.raises(ValueError, match="an adapter has dropout: rngs="):
        model.apply({"params": params}, IDS, deterministic=False)


def test_a_weight_that_works_on_what_rows_share_has_one_adapter_for_all():
    sizes = {**SIZES, "intermediate_size": 16, "max_position_embeddings": 16, "type_vocab_size": 0}
    sizes["num_hidden_layers"] = 1
    config = fm.DebertaV2Config(
        **sizes, relative_attention=True, pos_att_type=["c2p"], share_att_key=True
    )
    model = fm.DebertaV2Model(config)
    params = params_of(model)
    params = moved(model.add_adapter(params, {**LORA, "target_modules": ["key_proj"]}))
    bank = fp.stack_adapters(params)
    out = applied(model, fp.choose_adapters(bank, "default"), IDS).last_hidden_state
    assert np.allclose(out, applied(model, params, IDS).last_hidden_state, atol=1e-5)
    with pytest.raises(ValueError, match="what rows share"):
        applied(model, fp.choose_adapters(bank, [1, 0]), IDS)


def test_edits_refuse_adapted_leaves():
    model, params = llama()
    adapted = model.add_adapter(params, {**LORA, "target_modules": ["embed_tokens"]})
    with pytest.raises(ValueError, match="embedding is held as .*LoRA, which is not cut"):
        model.resize_token_embeddings(adapted, 200, jax.random.key(0))
