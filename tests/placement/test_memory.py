"""Params that are more than the process may have: those on the disk are run all the same."""

import json
import math
import os
import re

import _children
from _files import safetensors

import flaxmodels as fm
from flaxmodels import params as fp

CONFIG = fm.LlamaConfig(
    vocab_size=64,
    hidden_size=512,
    intermediate_size=2048,
    num_hidden_layers=16,
    num_attention_heads=8,
)
MORE = 120 << 20
"""Bytes that the process may take for load and run: two layers, 34 MB, the buffers that they are
read into, the same memory on a CPU device, and the compiler's."""

PROGRAM = """
import ctypes, json, resource, sys
ctypes.CDLL(None).mallopt(-3, 65536)  # M_MMAP_THRESHOLD, or glibc keeps what was freed
import jax
import jax.numpy as jnp
import numpy as np
import flaxmodels as fm
folder, more = sys.argv[1], int(sys.argv[2])

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

jax.block_until_ready(jnp.zeros(3) + 1)
before = status("VmRSS")
limit = status("VmData") + more
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
model, params = fm.LlamaForCausalLM.from_pretrained(
    folder, device_map={"": 0, "model.layers": "disk"}, progress=False
)
logits = model.apply({"params": params}, np.arange(4)[None]).logits
json.dump([status("VmHWM") - before, bool((logits == 0).all())], sys.stdout)
"""


def write_zeros(folder):
    """A checkpoint of zeros, without a disk's worth of them -> bytes of its params."""
    header, end = {}, 0
    for path, leaf in fp.flatten(fm.LlamaForCausalLM(CONFIG).abstract_params()).items():
        name = re.sub("/(kernel|scale|embedding)$", "/weight", path).replace("/", ".")
        shape = leaf.shape[::-1] if path.endswith("kernel") else leaf.shape
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    file = folder / "model.safetensors"
    file.write_bytes(safetensors(header))
    os.truncate(file, file.stat().st_size + end)
    CONFIG.save_pretrained(folder)
    return end


def test_P13_18_a_model_larger_than_the_limit_of_its_process(tmp_path):
    size = write_zeros(tmp_path)
    run = _children.run("-c", PROGRAM, tmp_path, str(MORE))
    assert run.returncode == 0, run.stderr[-3000:]
    peak, is_zero = json.loads(run.stdout)
    assert is_zero and peak < MORE < size / 2
