"""Make the goldens under tests/goldens/big_bird with PyTorch Transformers: texts that are long
enough for attention by blocks, which those of `make_family_goldens.py` are not.

Run by hand, in the environment that the other script names; rewrites them, the same every time:

    python scripts/goldens/models/make_big_bird_goldens.py

`long.json` has the versions; of each case of `CASES` its config.json, tensors, inputs, whether the
model is in training (without dropout, but with blocks drawn) and gradients, as `tests/goldens/
families` has them; and `drawn`, the blocks that the reference draws for some sizes. The outputs are
in `long.safetensors`: `<case>.logits` and, of the last row and layer, `<case>.attentions`.
"""

from pathlib import Path

import _families as families
import numpy as np
import torch
import transformers
from _weights import integers
from make_family_goldens import build, gradients, numpy, tensors, versions
from safetensors.numpy import save_file
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

FOLDER = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "big_bird"
MASKED = "BigBirdForMaskedLM"
CONFIG = {
    "attention_type": "block_sparse",
    "num_random_blocks": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
CASES = {
    "padded": {"block_size": 2, "length": 19, "padding": 3, "training": False},
    "padded-training": {"block_size": 2, "length": 19, "padding": 3, "training": True},
    "training": {"block_size": 3, "length": 27, "padding": 0, "training": True},
}
DRAWN = [[13, 1, 1, 64], [40, 2, 4, 64], [1024, 64, 3, 4096], [1024, 128, 1, 1100]]
DRAWN += [[4096, 64, 3, 4096]]
"""Length, block_size, num_random_blocks, max_position_embeddings."""


def main() -> None:
    family, arrays, cases = families.load("big_bird"), {}, {}
    for name, case in CASES.items():
        config = family.config_of(MASKED) | CONFIG | {"block_size": case["block_size"]}
        model, entry = build(family, MASKED, config)
        model.train(case["training"])
        inputs = make_inputs(case["length"], case["padding"])
        with torch.no_grad():
            out = model(**tensors(inputs), output_attentions=True)
        arrays[f"{name}.logits"] = numpy(out.logits)
        whole = numpy(out.attentions[-1])[-1, :, : case["length"], : case["length"]]
        arrays[f"{name}.attentions"] = np.ascontiguousarray(whole)
        found = gradients(model, inputs, family)
        cases[name] = entry | {"inputs": inputs, "training": case["training"], "gradients": found}
    drawn = [{"sizes": sizes, "blocks": draw(*sizes)} for sizes in DRAWN]
    FOLDER.mkdir(exist_ok=True)
    text = families.text_of({"versions": versions(), "cases": cases, "drawn": drawn})
    (FOLDER / "long.json").write_text(text)
    save_file(arrays, FOLDER / "long.safetensors")


def make_inputs(length: int, padding: int) -> dict:
    """Two rows, the second of which ends with padding."""
    ids = integers("long.input_ids", (2, length), 3, families.TOKENS["vocab_size"])
    mask = np.ones((2, length), np.int32)
    mask[1, length - padding :] = 0
    return {"input_ids": (ids * mask).tolist(), "attention_mask": mask.tolist()}


def draw(length: int, size: int, count: int, positions: int) -> list:
    """Returns the blocks that layer 1 of a model of 2 heads draws."""
    config = transformers.BigBirdConfig(
        hidden_size=2,
        num_attention_heads=2,
        block_size=size,
        num_random_blocks=count,
        max_position_embeddings=positions,
    )
    layer, blocks = BigBirdBlockSparseAttention(config, seed=1).train(), length // size
    np.random.seed(1)
    if length in (1024, 3072, 4096):
        made = [
            layer._bigbird_block_rand_mask(positions, positions, size, size, count, last_idx=1024)
            for _ in range(2)
        ]
        return np.stack([rows[: blocks - 2] for rows in made]).tolist()
    plan = layer._get_rand_attn_plan(length, size, count)
    made = layer._bigbird_block_rand_mask_with_head(length, length, size, size, 2, *plan)
    return np.stack(made).tolist()


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main()
