"""Make tests/goldens/formats/tf with TensorFlow, Keras 2 and Transformers' TensorFlow classes.

Run by hand, in an environment of its own:

    pip install tensorflow-cpu==2.18.1 tf-keras==2.18.0 transformers==4.53.3 h5py==3.16.0
    python scripts/goldens/files/_goldens_tf.py

A folder with config.json holds a model, and `expected.npz` inputs as `in.*`, logits as `out.*`.
`h5`, `safetensors`, `google` and `objects` hold the same parameters, the latter two those alone.
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

ROOT = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "formats" / "tf"
BERT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
ONE_LAYER = {"num_hidden_layers": 1}
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
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


def save(name, made, **kwargs):
    made.save_pretrained(ROOT / name, **kwargs)
    found = made(INPUTS)
    inputs = {f"in.{key}": value for key, value in INPUTS.items()}
    logits = {f"out.{key}": found[key].numpy() for key in found if key.endswith("logits")}
    np.savez_compressed(ROOT / name / "expected.npz", **inputs, **logits)


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
    values = {google_name(weight.name): weight.numpy() for weight in made.weights}
    head = "cls/seq_relationship/output_weights"
    values[head] = values[head].T
    for name in ("bert/pooler/dense/kernel", "bert/embeddings/LayerNorm/gamma"):
        values |= {f"{name}/adam_{moment}": np.ones_like(values[name]) for moment in "mv"}
    values["global_step"] = np.int64(1000)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver()
        saver.save(session, str(ROOT / "google" / "bert_model.ckpt"), write_meta_graph=False)


def save_objects(made):
    """A TensorFlow 2 checkpoint, with what a training script keeps: a counter, and optimizers of
    both kinds after a step without effect."""
    pooler = [weight for weight in made.trainable_weights if "pooler" in weight.name]
    before = made.get_weights()
    optimizers = [tf_keras.optimizers.Adam(), tf_keras.optimizers.legacy.Adam()]
    for optimizer in optimizers:
        optimizer.apply_gradients([(tf.zeros_like(weight), weight) for weight in pooler])
    assert all(map(np.array_equal, before, made.get_weights()))
    new, legacy = optimizers
    saved = tf.train.Checkpoint(model=made, optimizer=new, legacy=legacy)
    saved.save(str(ROOT / "objects" / "model.ckpt"))
    for path in (ROOT / "objects").glob("model.ckpt-1.*"):
        path.rename(path.with_name(path.name.replace("ckpt-1", "ckpt")))


def save_variables():
    """Every dtype, in two shards."""
    rng = np.random.default_rng(1)
    values = {"scalar": np.float32(3.5), "empty": np.zeros((0, 4), np.float32)}
    for name in DTYPES:
        value = np.abs(rng.standard_normal((3, 5)) * 20)
        values[name] = (value > 10 if name == "bool" else value).astype(
            tf.as_dtype(name).as_numpy_dtype
        )
    folder = ROOT / "variables"
    names = sorted(values)
    for half, inside in (("a", names[::2]), ("b", names[1::2])):
        save_slices(folder / half, [(name, "", values[name]) for name in inside])
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(folder / "a"), str(folder / "b")],
        destination_prefix=str(folder / "model.ckpt"),
        delete_old_dirs=False,
    )
    save_bytes(folder, values)


def save_partitioned():
    """Variables in slices, by rows and (in `columns`) not by rows."""
    sizes = {"few": (10, 4), "many": (17000, 1), "row": (3,), "whole": (1, 2)}
    values = {
        name: np.arange(np.prod(shape)).reshape(shape).astype(np.int8)
        for name, shape in sizes.items()
    }
    cuts = {"few": (4, 7), "many": (100, 9000, 16000), "row": (1, 2), "whole": ()}
    slices = []
    for name, value in values.items():
        bounds = [0, *cuts[name], len(value)]
        inner = ":".join("-" for _ in value.shape[1:])
        for start, stop in zip(bounds, bounds[1:], strict=False):
            extents = f"{start},{stop - start}" + (f":{inner}" if inner else "")
            shape = " ".join(map(str, value.shape))
            slices.append((name, f"{shape} {extents}", value[start:stop]))
    save_slices(ROOT / "partitioned" / "model.ckpt", slices)
    save_bytes(ROOT / "partitioned", values)
    columns = [("cut", f"10 4 -:{at},2", values["few"][:, at : at + 2]) for at in (0, 2)]
    save_slices(ROOT / "columns" / "model.ckpt", columns)


def save_slices(prefix, rows):
    """(name, "" or what part of which shape, value) of each tensor."""
    names, slices, values = zip(*rows, strict=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=slices,
        tensors=[tf.constant(value) for value in values],
    )


def save_bytes(folder, values):
    """The values as NumPy can store them: bytes, the last axis those of one number."""
    arrays = {
        name: np.frombuffer(value.tobytes(), np.uint8).reshape(*value.shape, value.dtype.itemsize)
        for name, value in values.items()
    }
    np.savez_compressed(folder / "expected.npz", **arrays)


def save_keras():
    """A whole Keras model, its optimizer and a Lambda layer in the one file."""
    layers = tf_keras.layers
    made = tf_keras.Sequential([layers.Dense(2, input_shape=(3,)), layers.Lambda(lambda x: x + 1)])
    made.compile("sgd", "mse")
    (ROOT / "keras").mkdir()
    made.save(ROOT / "keras" / "model.h5")


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    bert, small = (transformers.BertConfig(**BERT | more) for more in ({}, ONE_LAYER))
    made = model(transformers.TFBertForPreTraining, bert)
    save("h5", made)
    save("safetensors", made, safe_serialization=True)
    save_google(made)
    save_objects(made)
    made = model(transformers.TFBertForMaskedLM, small)
    save("sharded", made, max_shard_size="8KB")
    save("sharded-safetensors", made, safe_serialization=True, max_shard_size="8KB")
    gpt2 = transformers.GPT2Config(**GPT2)
    save("gpt2", model(transformers.TFGPT2LMHeadModel, gpt2))
    save_variables()
    save_partitioned()
    save_keras()
    for path in ROOT.rglob("checkpoint"):
        path.unlink()  # text that names the newest of several
    packages = {"tensorflow": tf, "tf-keras": tf_keras, "transformers": transformers, "h5py": h5py}
    versions = {name: package.__version__ for name, package in packages.items()}
    (ROOT / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
