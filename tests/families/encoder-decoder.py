"""An encoder beside a decoder of another width: BERT's, and one that attends to it."""

CONFIG = {
    "encoder": {
        "model_type": "bert",
        "vocab_size": 61,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 64,
    },
    "decoder": {
        "model_type": "bert",
        "vocab_size": 61,
        "hidden_size": 20,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 28,
        "max_position_embeddings": 64,
        "is_decoder": True,
        "add_cross_attention": True,
    },
    "decoder_start_token_id": 1,
}
CLASSES = {"EncoderDecoderModel": "AutoModelForSeq2SeqLM"}
SAME = {"decoder.cls.predictions.bias": "decoder.cls.predictions.decoder.bias"}
DECODES = True
UNREAD = {"decoder_start_token_id": "labels and generation read it", "pad_token_id": "the same"}
UNREAD |= {"num_labels": "no class has labels"}
