"""Make the goldens under tests/goldens/quantized with the libraries that write such checkpoints.

Run by hand; rewrites what it is asked for, the same every time but for the order of metadata:

    python scripts/goldens/models/make_quantized_goldens.py [GROUP ...]

A GROUP is a module of `quantized_goldens/`. Last run with Python 3.12.1, torch 2.13.0 (CPU),
transformers 5.23.0, compressed-tensors 0.20.1, bitsandbytes 0.50.2, gptqmodel 7.7.0 and AutoAWQ
0.2.9 (`gptq_cases.py`, `awq_cases.py`).
`<group>.safetensors` has for each case the tensors that the writer made, `<case>:<tensor>`, what
the writer decodes them to, `<case>:decoded:<tensor>`, in the dtype that it decodes in, and as
metadata the quantization_config of each case. The folders are models with the logits of their
dequantised weights.
"""

import importlib
import importlib.metadata
import json
import platform
import sys

import torch
from quantized_goldens.model import FOLDERS
from safetensors.torch import save_file

GROUPS = ("fp8", "compressed_tensors", "mxfp4", "bitsandbytes", "gptq", "awq")
LIBRARIES = ("torch", "transformers", "compressed-tensors", "bitsandbytes")


def main() -> None:
    torch.set_num_threads(1)
    FOLDERS.mkdir(exist_ok=True)
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    for group in sys.argv[1:] or GROUPS:
        module = importlib.import_module(f"quantized_goldens.{group}_cases")
        cases = module.cases()
        configs = {case: config for case, (config, _) in cases.items()}
        made_with = json.dumps(versions | getattr(module, "VERSIONS", {}))
        metadata = {"format": "pt", "versions": made_with, "configs": json.dumps(configs)}
        held = {
            f"{case}:{name}": value.contiguous()
            for case, (_, tensors) in cases.items()
            for name, value in tensors.items()
        }
        save_file(held, FOLDERS / f"{group}.safetensors", metadata)
        if hasattr(module, "folder"):
            module.folder()


if __name__ == "__main__":
    main()
