"""Make tests/goldens/training/collators.json with the collators of Transformers.

Run by hand; rewrites it, the same every time:

    python scripts/goldens/models/make_data_goldens.py

Last run with Python 3.11.7, transformers 5.23.0, numpy 2.4.6. Each case has the rows that were
collated, by which collator, and of each array its dtype and values.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import transformers

OUT = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "training"
IDS = [[2, 7, 8, 3], [2, 9, 3], [2, 5, 6, 7, 8, 9, 3]]
TYPES = [[0, 0, 1, 1], [0, 0, 1], [0] * 7]

PLAIN = {
    "int_label": [{"input_ids": [1, 2], "label": i} for i in (1, 0, 2)],
    "float_label": [{"input_ids": [1, 2], "label": x} for x in (0.5, -1.0)],
    "label_ids": [{"input_ids": [1, 2], "label_ids": [i, -100]} for i in (1, 0)],
    "float_label_ids": [{"input_ids": [1, 2], "label_ids": [0.0, x]} for x in (1.0, 0.0)],
    "labels": [{"input_ids": [1, 2], "labels": [i, i]} for i in (1, 0)],
    "floats": [
        {"input_ids": [1, 2], "bbox": [0.5, 1.5]},
        {"input_ids": [3, 4], "bbox": [0.0, 2.0]},
    ],
    "text_and_none": [{"input_ids": [1], "text": "a", "extra": None, "label": None}] * 2,
    "nested": [{"input_ids": [[1, 2], [3, 4]], "label": i} for i in (0, 1)],
}
PADDED = {
    "ids": [{"input_ids": ids} for ids in IDS],
    "masks": [{"input_ids": ids, "attention_mask": [0] + [1] * (len(ids) - 1)} for ids in IDS],
    "types": [{"input_ids": i, "token_type_ids": t} for i, t in zip(IDS, TYPES, strict=True)],
    "special": [{"input_ids": i, "special_tokens_mask": [1] * len(i)} for i in IDS],
    "label": [{"input_ids": ids, "label": i} for i, ids in enumerate(IDS)],
    "float_label": [{"input_ids": ids, "label": i / 2} for i, ids in enumerate(IDS)],
    "label_ids": [{"input_ids": ids, "label_ids": [i, i]} for i, ids in enumerate(IDS)],
    "positions": [{"input_ids": ids, "start_positions": i} for i, ids in enumerate(IDS)],
    "one": [{"input_ids": IDS[0]}],
}
HOW: dict[str, dict[str, Any]] = {
    "longest": {},
    "multiple": {"pad_to_multiple_of": 4},
    "max_length": {"padding": "max_length", "max_length": 10},
}
TOKENS = [{"input_ids": ids, "labels": [-100, *range(len(ids) - 2), -100]} for ids in IDS]
ANSWERS = [{"input_ids": ids, "labels": [4] * (n + 1)} for n, ids in enumerate(IDS)]
CHOICES = [
    {"input_ids": [IDS[0], IDS[1]], "label": 1},
    {"input_ids": [IDS[1], IDS[2]], "label": 0},
]


def tokenizer(side: str) -> Any:
    words = {f"w{i}": i for i in range(12)} | {"[PAD]": 12}
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w1"))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=library, pad_token="[PAD]", padding_side=side
    )


def arrays(batch: Any) -> dict[str, Any]:
    made = {name: np.asarray(x) for name, x in batch.items()}
    return {name: {"dtype": str(x.dtype), "values": x.tolist()} for name, x in made.items()}


def main() -> None:
    plain = transformers.DefaultDataCollator(return_tensors="np")
    cases = [
        {"collator": "default", "name": name, "rows": rows, "made": arrays(plain(rows))}
        for name, rows in PLAIN.items()
    ]
    numpy_rows = [{"input_ids": np.array([1, 2]), "label": np.array(i)} for i in (1, 0)]
    as_lists = [{"input_ids": [1, 2], "label": i} for i in (1, 0)]
    cases.append(
        {
            "collator": "default",
            "name": "arrays",
            "rows": as_lists,
            "made": arrays(plain(numpy_rows)),
        }
    )
    for side in ("right", "left"):
        tok = tokenizer(side)
        told = {"tokenizer": tok, "return_tensors": "np"}
        made: list[tuple[str, dict[str, Any], Any, Any]] = [
            (name, how, transformers.DataCollatorWithPadding(**told, **how), rows)
            for name, rows in PADDED.items()
            for how in HOW.values()
        ]
        for how in HOW.values():
            by_token = transformers.DataCollatorForTokenClassification(**told, **how)
            made.append(("token_labels", how, by_token, TOKENS))
            answers = transformers.DataCollatorForSeq2Seq(**told, **how)
            made.append(("answers", how, answers, ANSWERS))
        for name, how, collator, rows in made:
            case = {"collator": "padding", "name": name, "side": side, "how": how, "rows": rows}
            cases.append(case | {"made": arrays(collator([dict(row) for row in rows]))})
    cases += [choices(tokenizer(side), side) for side in ("right", "left")]
    versions = {m.__name__: m.__version__ for m in (transformers, np)}
    OUT.mkdir(exist_ok=True)
    out = OUT / "collators.json"
    out.write_text(json.dumps({"versions": versions, "pad": 12, "cases": cases}) + "\n")
    print(out, out.stat().st_size, len(cases))


def choices(tok: Any, side: str) -> dict[str, Any]:
    collator = transformers.DataCollatorForMultipleChoice(tok)
    made = {name: x.numpy() for name, x in collator([dict(row) for row in CHOICES]).items()}
    return {
        "collator": "padding",
        "name": "choices",
        "side": side,
        "how": {},
        "rows": CHOICES,
        "made": arrays(made),
    }


if __name__ == "__main__":
    main()
