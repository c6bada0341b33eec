"""OPT counts positions itself, and vectors of tokens may be narrower than the model. Outputs are
compared with the reference in `test_reference.py`."""

import jax
import numpy as np
import pytest
from _drawn import params_of

import flaxmodels as fm

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "ffn_dim": 24,
    "max_position_embeddings": 16,
    "word_embed_proj_dim": 8,
}
MODEL = fm.OPTForCausalLM(fm.OPTConfig(**SMALL))
IDS = np.arange(3, 11)[None]


@pytest.fixture(scope="module")
def params():
    return params_of(MODEL)


def logits(params, **inputs):
    return jax.jit(lambda p, x: MODEL.apply({"params": p}, **x).logits)(params, inputs)


def test_each_text_of_a_row_has_positions_of_its_own(params):
    """A mask over pairs: texts of 3 and 5 tokens after another are as they are alone."""
    segments = np.repeat([0, 1], [3, 5])
    pairs = np.equal.outer(segments, segments)[None].astype(np.int32)
    together = logits(params, input_ids=IDS, attention_mask=pairs)
    alone = [logits(params, input_ids=part) for part in (IDS[:, :3], IDS[:, 3:])]
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1), atol=1e-5)


def test_a_causal_mask_over_pairs_counts_what_it_shows(params):
    mask = np.array([[0, 0, 1, 1, 1, 0, 1, 1]])
    pairs = np.tril(np.ones((8, 8), int))[None] * mask[:, None]
    row, square = (logits(params, input_ids=IDS, attention_mask=x) for x in (mask, pairs))
    there = mask[0] == 1
    np.testing.assert_allclose(row[:, there], square[:, there], atol=1e-5)


def test_vectors_are_as_wide_as_those_of_tokens(params):
    table = params["model"]["decoder"]["embed_tokens"]["embedding"]
    assert table.shape == (50, 8)
    given = logits(params, inputs_embeds=table[IDS])
    np.testing.assert_allclose(given, logits(params, input_ids=IDS), atol=1e-6)
    with pytest.raises(ValueError, match=r"expected \[B, T, 8\]"):
        MODEL.apply({"params": params}, inputs_embeds=np.zeros((1, 3, 16), np.float32))
