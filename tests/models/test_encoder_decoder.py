"""An encoder beside a decoder, of any families: halves that do not fit are refused. Numbers are in
`test_reference.py`."""

import jax
import numpy as np
import pytest

import flaxmodels as fm

BERT = fm.BertConfig(
    vocab_size=31,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=16,
)
IDS = np.array([[5, 7, 3]])


def test_a_projection_is_there_where_widths_differ():
    given = {"input_ids": IDS, "decoder_input_ids": IDS[:, :2]}
    for width, there in ((8, False), (12, True)):
        decoder = BERT.replace(hidden_size=width)
        config = fm.EncoderDecoderConfig.from_encoder_decoder_configs(BERT, decoder)
        model = fm.EncoderDecoderModel(config)
        assert config.decoder.is_decoder and config.decoder.add_cross_attention
        assert ("enc_to_dec_proj" in model.abstract_params()) == there
        out = jax.eval_shape(lambda model=model: model.init_with_output(jax.random.key(0), **given))
        assert out[0].logits.shape == (1, 2, 31)


@pytest.mark.parametrize(
    ("halves", "message"),
    [
        ({"decoder": BERT}, "decoder.is_decoder is False"),
        ({"decoder": BERT.replace(is_decoder=True)}, "decoder.add_cross_attention is False"),
        ({"decoder": fm.LlamaConfig()}, "decoder is a llama, whose layers cannot attend"),
        ({"encoder": BERT.replace(is_decoder=True, add_cross_attention=True)}, "no other encoder"),
    ],
)
def test_halves_that_do_not_fit_are_refused(halves, message):
    decoder = BERT.replace(is_decoder=True, add_cross_attention=True)
    with pytest.raises(fm.ConfigError, match=message):
        fm.EncoderDecoderConfig(**{"encoder": BERT, "decoder": decoder, **halves})
