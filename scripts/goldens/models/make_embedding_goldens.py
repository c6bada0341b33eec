"""Make the goldens under tests/goldens/embeddings with sentence-transformers.

Run by hand; rewrites all, the same every time:

    python scripts/goldens/models/make_embedding_goldens.py

Last run with Python 3.11.7, torch 2.13.0 (CPU), transformers 5.23.0, sentence-transformers 5.7.0.
The encoders are those of `_embeddings.py`, and their weights those of
`_weights.py`: a golden holds none. `embeddings.json` has of each the JSON files that
sentence-transformers wrote beside the weights, and the shapes of the tensors;
`embeddings.safetensors` what it made of the texts, `<case>.<call>`, the similarities of the first
call, and poolings of numbers by rule.
"""

import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
import transformers
from _embeddings import CASES, CROSS, PAIRS, texts_of
from _weights import uniform, weights
from safetensors.numpy import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer import modules as after

torch.set_num_threads(1)
GOLDENS = Path(__file__).resolve().parents[3] / "tests" / "goldens"
MODELS = {"bert": "BertModel", "qwen3": "Qwen3Model", "gemma3_text": "Gemma3TextModel"}


def main() -> None:
    golden: dict[str, Any] = {"versions": versions(), "cases": {}, "cross": {}}
    arrays = poolings()
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            golden["cases"][name] = made(name, case, Path(folder), arrays)
    for name, config in CROSS.items():
        with tempfile.TemporaryDirectory() as folder:
            golden["cross"][name] = crossed(name, config, Path(folder), arrays)
    out = GOLDENS / "embeddings"
    out.mkdir(exist_ok=True)
    (out / "embeddings.json").write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    save_file(arrays, out / "embeddings.safetensors")
    print({path.name: path.stat().st_size for path in out.iterdir()})


def versions() -> dict[str, str]:
    return {m.__name__: m.__version__ for m in (torch, transformers, sentence_transformers)}


def poolings() -> dict[str, np.ndarray]:
    """Every mode, of rows that are padded on either side, with and without a prompt."""
    x = torch.tensor(uniform("pooled", (4, 6, 5)))
    mask = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    right = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0], [1] * 5 + [0], [1, 1, 1, 0, 0, 0]])
    found = {"mask": mask.numpy().astype(np.int32), "right": right.numpy().astype(np.int32)}
    for mode, (prompt, seen) in itertools.product(
        after.Pooling.POOLING_MODES, ((None, mask), (None, right), (2, right))
    ):
        if mode == "weightedmean" and seen is mask:
            continue  # it weighs by places in the array there, padding among them
        pooling = after.Pooling(5, mode, include_prompt=prompt is None)
        features = {"token_embeddings": x, "attention_mask": seen.clone(), "prompt_length": prompt}
        if prompt is None:
            del features["prompt_length"]
        name = f"pooling.{mode}.{'mask' if seen is mask else 'right'}.{prompt or 0}"
        found[name] = pooling(features)["sentence_embedding"].numpy()
    return found


def base(config: dict[str, Any], kind: str, cls: str, tokenizer: str, folder: Path, settings):
    """Writes a tiny model of weights by rule, and its tokenizer, into a folder."""
    configuration = transformers.AutoConfig.for_model(kind, **config)
    model = getattr(transformers, cls)(configuration)
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    shapes = {name: array.shape for name, array in load_file(file).items()}
    save_file(weights(shapes), file, {"format": "pt"})
    for path in (GOLDENS / "tokenizers" / tokenizer).glob("tokenizer*.json"):
        shutil.copy(path, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def made(name: str, case: dict[str, Any], folder: Path, arrays: dict) -> dict[str, Any]:
    kind, config = case["model"]
    settings = case.get("settings", {})
    base(config, kind, MODELS[kind], case["tokenizer"], folder / "base", settings)
    model = Transformer(str(folder / "base"), **case.get("text", {}))
    model.modality_config = {
        "text": {"method": "forward", "method_output_name": "last_hidden_state"}
    }
    modules = [model, after.Pooling(config["hidden_size"], **case["pooling"])]
    for wide, narrow, bias, act in case.get("dense", []):
        act = sentence_transformers.util.import_from_string(act)()
        modules.append(Dense(wide, narrow, bias, act))
    if case.get("norm"):
        modules.append(after.LayerNorm(case["dense"][-1][1]))
    if case.get("normalize"):
        modules.append(after.Normalize())
    encoder = SentenceTransformer(
        modules=modules,
        prompts=case.get("prompts"),
        default_prompt_name=case.get("default"),
        similarity_fn_name=case.get("similarity"),
        device="cpu",
    )
    encoder.save(str(folder / "saved"), create_model_card=False)
    tensors = {}
    for path in sorted((folder / "saved").rglob("model.safetensors")):
        place = str(path.parent.relative_to(folder / "saved"))
        shapes = {key: array.shape for key, array in load_file(path).items()}
        drawn = weights({f"{place}.{key}": shape for key, shape in shapes.items()})
        if place != ".":
            named = {key: drawn[f"{place}.{key}"] for key in shapes}
            save_file(named, path, {"format": "pt"})
        tensors[place] = {key: list(shape) for key, shape in shapes.items()}
    encoder = SentenceTransformer(str(folder / "saved"), device="cpu")
    for call, options in case["calls"].items():
        arrays[f"{name}.{call}"] = encoder.encode(texts_of(name), batch_size=2, **options)
    first = arrays[f"{name}.{next(iter(case['calls']))}"]
    arrays[f"{name}.similarity"] = encoder.similarity(first[:2], first).numpy()
    files = files_of(folder / "saved")
    files["sentence_bert_config.json"] |= case.get("text", {})  # 5.7 has it in the tokenizer's
    return {"files": files, "tensors": tensors}


def crossed(name: str, config: dict[str, Any], folder: Path, arrays: dict) -> dict[str, Any]:
    base(config, "bert", "BertForSequenceClassification", "wordpiece", folder / "base", {})
    encoder = CrossEncoder(str(folder / "base"), device="cpu")
    encoder.save_pretrained(str(folder / "saved"), create_model_card=False)
    arrays[f"{name}.scores"] = encoder.predict(PAIRS)
    if config["num_labels"] == 1:
        ranked = encoder.rank(PAIRS[0][0], [b for _, b in PAIRS])
        arrays[f"{name}.ranked"] = np.array([one["corpus_id"] for one in ranked], np.int32)
    else:
        arrays[f"{name}.softmax"] = encoder.predict(PAIRS, apply_softmax=True)
    shapes = {k: list(v.shape) for k, v in load_file(folder / "saved/model.safetensors").items()}
    return {"files": files_of(folder / "saved"), "tensors": {".": shapes}}


def files_of(folder: Path) -> dict[str, Any]:
    """The JSON files that were written, but for the tokenizer's."""
    found = sorted(folder.rglob("*.json"))
    kept = [p for p in found if not p.name.startswith(("tokenizer", "special", "vocab"))]
    return {str(p.relative_to(folder)): json.loads(p.read_text()) for p in kept}


if __name__ == "__main__":
    main()
