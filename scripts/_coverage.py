"""The calls that this package answers, and which tests hold each: the page `docs/coverage.md`."""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ROWS = {
    "PreTrainedModel": {
        "P1": "PreTrainedModel(config)",
        "P2": "config_class",
        "P3": "load_tf_weights",
        "P4": "base_model_prefix",
        "P5": "is_parallelizable",
        "P6": "main_input_name",
        "P7": "push_to_hub",
        "P8": "add_model_tags",
        "P9": "can_generate",
        "P10": "dequantize",
        "P11": "disable_input_require_grads",
        "P12": "enable_input_require_grads",
        "P13": "from_pretrained",
        "P14": "get_compiled_call",
        "P15": "get_input_embeddings",
        "P16": "get_memory_footprint",
        "P17": "get_output_embeddings",
        "P18": "get_parameter_or_buffer",
        "P19": "gradient_checkpointing_disable",
        "P20": "gradient_checkpointing_enable",
        "P21": "init_weights",
        "P22": "initialize_weights",
        "P23": "post_init",
        "P24": "prune_heads",
        "P25": "register_for_auto_class",
        "P26": "resize_token_embeddings",
        "P27": "reverse_bettertransformer",
        "P28": "save_pretrained",
        "P29": "set_input_embeddings",
        "P30": "tie_weights",
        "P31": "to_bettertransformer",
        "P32": "warn_if_padding_and_no_attention_mask",
        "P33": "_supports_assign_param_buffer",
    },
    "ModuleUtilsMixin": {
        "M1": "ModuleUtilsMixin",
        "M2": "add_memory_hooks",
        "M3": "estimate_tokens",
        "M4": "floating_point_ops",
        "M5": "get_extended_attention_mask",
        "M6": "get_head_mask",
        "M7": "invert_attention_mask",
        "M8": "num_parameters",
        "M9": "reset_memory_hooks_state",
        "M10": "mem_rss_diff",
    },
    "TFPreTrainedModel, TFModelUtilsMixin": {
        "T1": "TFPreTrainedModel(config)",
        "T2": "config_class",
        "T3": "base_model_prefix",
        "T4": "main_input_name",
        "T5": "push_to_hub",
        "T6": "can_generate",
        "T7": "compile",
        "T8": "create_model_card",
        "T9": "from_pretrained",
        "T10": "get_bias",
        "T11": "get_head_mask",
        "T12": "get_input_embeddings",
        "T13": "get_lm_head",
        "T14": "get_output_embeddings",
        "T15": "get_output_layer_with_bias",
        "T16": "get_prefix_bias_name",
        "T17": "prepare_tf_dataset",
        "T18": "prune_heads",
        "T19": "register_for_auto_class",
        "T20": "resize_token_embeddings",
        "T21": "save_pretrained",
        "T22": "serving",
        "T23": "serving_output",
        "T24": "set_bias",
        "T25": "set_input_embeddings",
        "T26": "set_output_embeddings",
        "T27": "test_step",
        "T28": "train_step",
        "U1": "TFModelUtilsMixin",
        "U2": "num_parameters",
    },
    "FlaxPreTrainedModel": {
        "F1": "FlaxPreTrainedModel(config, input_shape, seed, dtype, _do_init)",
        "F2": "config_class",
        "F3": "base_model_prefix",
        "F4": "main_input_name",
        "F5": "push_to_hub",
        "F6": "can_generate",
        "F7": "from_pretrained",
        "F8": "load_flax_sharded_weights",
        "F9": "register_for_auto_class",
        "F10": "save_pretrained",
        "F11": "to_bf16",
        "F12": "to_fp16",
        "F13": "to_fp32",
    },
    "PushToHubMixin, load_sharded_checkpoint": {
        "H1": "PushToHubMixin",
        "H2": "push_to_hub",
        "S1": "load_sharded_checkpoint",
        "S2": "what load_sharded_checkpoint returns",
    },
}
"""Class of Transformers -> {id: its call}."""

_PAGE = """# Coverage

The {count} calls of Transformers' three model classes and their mixins, as its documentation has
them, and the tests whose names carry the id of each. A number after an id, as in `P13_4`, is one of
the call's arguments. Written by `scripts/generate`; a test fails where a call has none.
"""


def page(_: str = "") -> str:
    """Makes `docs/coverage.md`."""
    found = tests_of_rows()
    lines = [_PAGE.format(count=sum(map(len, ROWS.values())))]
    for title, rows in ROWS.items():
        lines += [f"## {title}", "", "| id | call | tests |", "|---|---|---|"]
        for row, call in rows.items():
            tests = found[row]
            files = [f"`{path}` {', '.join(tests[path])}" for path in sorted(tests)]
            lines.append(f"| {row} | `{call}` | {'<br>'.join(files)} |")
        lines.append("")
    return "\n".join(lines)


@functools.cache
def tests_of_rows() -> dict[str, dict[str, list[str]]]:
    """Finds the tests of each call: {id: {file: names of tests, without "test_"}}."""
    found = {row: {} for rows in ROWS.values() for row in rows}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        place = str(path.relative_to(ROOT))
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for row in ids_of(node.name) & found.keys():
                    found[row].setdefault(place, []).append(node.name.removeprefix("test_"))
    return found


def ids_of(test: str) -> set[str]:
    """Returns the ids that the name of a test begins with.

    >>> sorted(ids_of("test_P28_5_9_11_T21_F10_save_and_push"))
    ['F10', 'P28', 'T21']
    """
    ids = re.match(r"test((_[A-Z]\d+)(_\d+)*)*", test)
    return set(re.findall(r"[A-Z]\d+", ids.group())) if ids else set()
