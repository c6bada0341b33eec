"""The families, one architecture a file.

A file has what is particular to its family: the configuration, and what it has of its own of names
in checkpoints, layers and heads. The registry lists the family's classes; those that say nothing
more than that they are this family's are made by `classes_of`.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..registry import FAMILIES, ConfigClass, ModelClass, ending_of, module_of


def classes_of(
    config: ConfigClass,
    *,
    parts: Mapping[str, ModelClass],
    prefixes: Mapping[str, str] | None = None,
    **of_base: object,
) -> Callable[[str], ModelClass]:
    """Makes the `__getattr__` of a family's module. It makes each class that the registry lists and
    the file does not write out, when it is first asked for: of Qwen 3, as if the file had

        class Qwen3Pretrained(DecoderPretrained):
            config_class = Qwen3Config

        class Qwen3Model(Qwen3Pretrained, DecoderModel): ...

        class Qwen3ForCausalLM(Qwen3Pretrained, vocabulary_heads.CausalLM):
            backbone = Qwen3Model

    Args:
        config: the family's configuration.
        parts: how a class's name ends -> what the class is, beside the family's base:
            {"Pretrained": DecoderPretrained, "Model": DecoderModel, ...}.
        prefixes: how a class's name ends -> what its checkpoints call the backbone, where it is not
            the `base_model_prefix` of the base.
        **of_base: attributes of the family's base, where they are not those of `parts`' own:
            `base_model_prefix`, `naming`, ...
    """
    family = FAMILIES[config.model_type]
    module = sys.modules[f"{__name__}.{module_of(config.model_type)}"]
    base, backbone = f"{family.prefix}Pretrained", f"{family.prefix}Model"

    def __getattr__(name: str) -> ModelClass:
        end = "Pretrained" if name == base else ending_of(name) or ""
        if end not in parts or name not in (base, *family.models):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        part = parts[end]
        bases = (part,) if name == base else (getattr(module, base), part)
        about: dict[str, Any] = {"__module__": module.__name__, "__doc__": part.__doc__}
        if name == base:
            about |= {"config_class": config, **of_base}
        elif name != backbone:
            about["backbone"] = getattr(module, backbone)
            if prefixes and end in prefixes:
                about["base_model_prefix"] = prefixes[end]
        made = type(part)(name, bases, about)
        return vars(module).setdefault(name, made)  # of two threads, the first one's

    return __getattr__
