"""Prompts: their form, their padding, and what is said about either."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmodels.generation.prompts import align_right, read_prompt

IDS = np.array([[0, 0, 5, 7], [5, 7, 3, 9]])


def test_without_a_mask_the_padding_is_that_of_transformers():
    given = read_prompt(IDS, IDS != 0).mask
    for ids in (IDS, IDS.tolist(), jnp.asarray(IDS)):
        np.testing.assert_array_equal(read_prompt(ids, pad=0, eos=(2,)).mask, given)
    np.testing.assert_array_equal(jax.jit(lambda x: read_prompt(x, pad=0).mask)(IDS), given)
    assert read_prompt(IDS).mask is None


@pytest.mark.parametrize("pad", [0, None])
@pytest.mark.parametrize("ids", [IDS, IDS[:, ::-1], IDS[:1]])
def test_padding_that_cannot_be_told_from_tokens_is_said(ids, pad):
    with pytest.warns(UserWarning, match="look padded with token 0.*attention_mask"):
        assert read_prompt(ids, pad=pad, eos=(0, 2)).mask is None


@pytest.mark.parametrize("ids", [[[0, 5, 7], [0, 3, 4]], [[5, 0, 7], [3, 4, 5]], [[0, 5]]])
def test_a_first_token_that_ends_sequences_too_is_no_padding(ids):
    assert read_prompt(ids, eos=(0,)).mask is None


@pytest.mark.parametrize(
    ("ids", "mask", "error", "message"),
    [
        ([3, 4], None, ValueError, r"shape \(2,\); expected \[B, T\].*input_ids\[None\]"),
        (np.zeros((1, 2, 3), int), None, ValueError, r"shape \(1, 2, 3\); expected \[B, T\]"),
        (np.zeros((0, 3), int), None, ValueError, r"shape \(0, 3\).*at least one row"),
        (np.zeros((3, 0), int), None, ValueError, r"shape \(3, 0\).*one token"),
        ([[3, 4], [5]], None, ValueError, "rows of different lengths: pad them"),
        (IDS + 0.7, None, TypeError, "must be integers.*float64"),
        (IDS + 100, None, ValueError, r"input_ids\[0, 0\] is 100"),
        (IDS - 1, None, ValueError, r"input_ids\[0, 0\] is -1"),
        (IDS, [[1, 1], [1, 1]], ValueError, r"attention_mask has shape \(2, 2\), input_ids \(2, 4"),
        (IDS, np.ones((2, 4, 4)), ValueError, "attention_mask has shape"),
        (IDS, (IDS == 0) * -1e9, ValueError, "attention_mask holds -1000000000.0: expected 1"),
        (IDS, IDS * [[1], [0]], ValueError, "row 1 of input_ids has no token in attention_mask"),
        (IDS * [[1], [0]], None, ValueError, r"row 1 of input_ids has no token but padding \(0\)"),
    ],
)
def test_D11_D29_what_is_no_prompt(ids, mask, error, message):
    with pytest.raises(error, match=message):
        read_prompt(ids, mask, pad=0, vocab_size=50)


def test_what_holds_no_numbers():
    for ids in ("a text", ["a text"], b"ab", None, iter([[1, 2]]), IDS.astype(object)):
        with pytest.raises(TypeError, match="input_ids is an? .*expected numbers"):
            read_prompt(ids)
    with pytest.raises(TypeError, match=r"input_ids is a dict; .*give its \['input_ids'\]"):
        read_prompt({"input_ids": IDS})
    for mask in ("1111", np.ones(IDS.shape, complex), np.full(IDS.shape, None)):
        with pytest.raises(TypeError, match="attention_mask is an? .*expected numbers"):
            read_prompt(IDS, mask)
    with pytest.raises(ValueError, match="attention_mask holds nan: expected 1 for tokens"):
        read_prompt(IDS, np.full(IDS.shape, np.nan))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_masks_of_any_dtype(dtype):
    mask = (IDS != 0).astype(dtype)
    np.testing.assert_array_equal(read_prompt(IDS, mask).mask, IDS != 0)


def test_alignment_moves_what_is_behind_the_last_token():
    ids = np.array([[1, 2, 3, 0], [0, 4, 0, 0], [5, 0, 6, 7], [0, 0, 0, 0]])
    aligned = align_right(_prompt(ids))
    expected = np.array([[0, 1, 2, 3], [0, 0, 0, 4], [5, 0, 6, 7], [0, 0, 0, 0]])
    np.testing.assert_array_equal(aligned.ids, expected)
    np.testing.assert_array_equal(aligned.mask, expected != 0)


def _prompt(ids):
    return jax.jit(lambda ids: read_prompt(ids, ids != 0))(ids)
