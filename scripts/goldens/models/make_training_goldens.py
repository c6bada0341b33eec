"""Makes tests/goldens/training/: what Transformers and PyTorch make of training.

Run by hand, with Python 3.12, torch 2.13.0 (CPU) and transformers 5.23.0; rewrites the files, the
same every time:

    python scripts/goldens/models/make_training_goldens.py [losses steps ...]

Each module `training_goldens/<name>.py` makes `<name>.safetensors`, and says what is in it.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

FOLDER = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "training"
MODULES = ("losses", "steps")


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    FOLDER.mkdir(parents=True, exist_ok=True)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    for name in sys.argv[1:] or MODULES:
        arrays, notes = importlib.import_module(f"training_goldens.{name}").make()
        arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        file = FOLDER / f"{name}.safetensors"
        save_file(arrays, file, versions | {"cases": json.dumps(notes, sort_keys=True)})
        print(f"{file.name}: {len(arrays)} arrays, {file.stat().st_size / 1e3:.1f} KB")


if __name__ == "__main__":
    main()
