"""Make tests/goldens/formats/tf with TensorFlow, Keras 2 and the TensorFlow classes of Transformers.

Run by hand, in an environment of its own:

    pip install tensorflow-cpu==2.18.1 tf-keras==2.18.0 transformers==4.53.3 h5py==3.16.0
    python scripts/_goldens_tf.py

A folder with `expected.npz` holds a model: inputs as `in.*`, its logits as `out.*`. The folders of
BERT for pre-training hold the same parameters in every format, so their logits are in `h5` alone.
`variables` and `partitioned` are checkpoints of plain variables, their values in `expected.npz`.
"""

import json
import os
import re
import shutil
from pathlib import Path

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import h5py
import numpy as np
import tensorflow as tf
import tf_keras
import transformers

ROOT = Path(__file__).resolve().parent.parent / "tests" / "goldens" / "formats" / "tf"
BERT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
INPUTS = {
    "input_ids": np.array([[5, 9, 31, 2, 17, 8], [7, 3, 3, 22, 0, 0]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], np.int32),
}
# Numbers whose NumPy dtype TensorFlow saves and JAX holds.
DTYPES = (
    "float16 float32 float64 bfloat16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool "
    "complex64 float8_e4m3fn float8_e5m2"
).split()


def model(cls, config):
    """A model whose every bias and norm moves the output."""
    made = cls(config)
    made(INPUTS)
    rng = np.random.default_rng(0)
    for weight in made.weights:
        noise = rng.standard_normal(weight.shape, np.float32)
        is_norm = weight.name.endswith("gamma:0")
        weight.assign(1 + 0.1 * noise if is_norm else 0.2 * noise)
    return made


def save(name, made, *, outputs=True, **kwargs):
    made.save_pretrained(ROOT / name, **kwargs)
    if outputs:
        found = made(INPUTS)
        logits = {key: found[key].numpy() for key in found if key.endswith("logits")}
        inputs = {f"in.{key}": value for key, value in INPUTS.items()}
        arrays = inputs | {f"out.{key}": value for key, value in logits.items()}
        np.savez_compressed(ROOT / name / "expected.npz", **arrays)


def google_name(name):
    """The name that Google's BERT releases have for a variable of Transformers'."""
    name = name.removesuffix(":0").partition("/")[2].replace("_._", "_")
    name = re.sub("^(mlm|nsp)___", "", name)
    name = re.sub("(_embeddings)/(weight|embeddings)$", r"\1", name)
    name = name.replace("cls/predictions/bias", "cls/predictions/output_bias")
    name = name.replace("seq_relationship/kernel", "seq_relationship/output_weights")
    return name.replace("seq_relationship/bias", "seq_relationship/output_bias")


def save_google(made):
    """The parameters under Google's names, some with an optimizer's moments beside them."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        values = {google_name(weight.name): value for weight, value in zip(made.weights, made.get_weights())}
        values["cls/seq_relationship/output_weights"] = values["cls/seq_relationship/output_weights"].T
        for name in ("bert/pooler/dense/kernel", "bert/embeddings/LayerNorm/gamma"):
            values |= {f"{name}/adam_{moment}": np.ones_like(values[name]) for moment in "mv"}
        values["global_step"] = np.int64(1000)
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver()
        saver.save(session, str(ROOT / "google" / "bert_model.ckpt"), write_meta_graph=False)


def save_objects(made):
    """A TensorFlow 2 checkpoint, with a counter, an optimizer that has taken a step, and the rest
    of what a training script keeps."""
    optimizer = tf_keras.optimizers.Adam()
    small = [weight for weight in made.trainable_weights if "pooler" in weight.name]
    optimizer.build(small)
    tf.train.Checkpoint(model=made, optimizer=optimizer).write(str(ROOT / "objects" / "model.ckpt"))
    legacy = tf_keras.optimizers.legacy.Adam()
    before = made.get_weights()
    legacy.apply_gradients([(tf.zeros_like(weight), weight) for weight in small])
    made.set_weights(before)
    saved = tf.train.Checkpoint(network=made.bert, training=legacy)
    saved.save(str(ROOT / "slots" / "model.ckpt"))


def save_variables():
    """Every dtype, in an object checkpoint of two shards."""
    rng = np.random.default_rng(1)
    values = {}
    for name in DTYPES:
        dtype = tf.as_dtype(name).as_numpy_dtype
        value = rng.standard_normal((3, 5)) * 20
        values[name] = (value > 0 if name == "bool" else np.abs(value)).astype(dtype)
    values |= {"scalar": np.float32(3.5), "empty": np.zeros((0, 4), np.float32)}
    folder = ROOT / "variables"
    folder.mkdir(parents=True)
    with tf.device("CPU:0"):
        names = [*values]
        tf.raw_ops.SaveV2(
            prefix=str(folder / "part0"), tensor_names=names[::2], shape_and_slices=[""] * len(names[::2]),
            tensors=[tf.constant(values[n]) for n in names[::2]],
        )
        tf.raw_ops.SaveV2(
            prefix=str(folder / "part1"), tensor_names=names[1::2], shape_and_slices=[""] * len(names[1::2]),
            tensors=[tf.constant(values[n]) for n in names[1::2]],
        )
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=[str(folder / "part0"), str(folder / "part1")],
            destination_prefix=str(folder / "model.ckpt"),
            delete_old_dirs=False,
        )
    write_bytes(folder / "expected.npz", values)
