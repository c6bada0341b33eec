"""Loading, as methods of a model's class."""

import os
from typing import Literal, Self, Unpack, overload

from .. import params as fp
from ..calls.signature import defaults_of, shows, value_of
from ..config.config import Config
from ..core.model import Mixin
from .load import load, load_tf
from .loading_info import LoadingInfo
from .model_plan import PlanOptions
from .options import LoadKeywords, PlanKeywords
from .request import DEFAULTS, UNSAID, NameOrPath, Request


class Loads(Mixin):
    """Adds what makes a model and its params of a checkpoint."""

    @overload
    @classmethod
    def from_pretrained(
        cls,
        name_or_path: NameOrPath | None = None,
        *model_args: object,
        output_loading_info: Literal[True],
        **options: Unpack[LoadKeywords],
    ) -> tuple[Self, fp.Params, LoadingInfo]: ...

    @overload
    @classmethod
    def from_pretrained(
        cls,
        name_or_path: NameOrPath | None = None,
        *model_args: object,
        output_loading_info: Literal[False] = False,
        **options: Unpack[LoadKeywords],
    ) -> tuple[Self, fp.Params]: ...

    @classmethod
    @shows(DEFAULTS)
    def from_pretrained(
        cls, name_or_path: NameOrPath | None = UNSAID, *model_args: object, **options: object
    ) -> tuple[Self, fp.Params] | tuple[Self, fp.Params, LoadingInfo]:
        """Loads a checkpoint: `(model, params)`, the params as stored, each leaf where it belongs.

        Args:
            name_or_path: a folder with `config.json` and weights of any format of
                `docs/formats.md`, or with PEFT's `adapter_config.json`; the name of a repository on
                the Hub, a weights file (`config` is then needed unless one lies beside it), or the
                address of any of them: `https://`, `gs://`, and others that fsspec knows. None with
                `config` and `state_dict`.
            *model_args: fields of the model by position, `dtype` first.
            config: used instead of the folder's own: a configuration, or where to read one: a
                folder, a file, the name of a repository.
            dtype: what the model computes in.
            rules: logical axes, or paths -> mesh axes, or the name of one of `fs.PRESETS`;
                `fs.DEFAULT_RULES` if None.
            uneven: what becomes of dimensions that do not divide over them; see `fs.shardings`.
            key: for leaves that are initialised; `jax.random.key(0)` if None.
            state_dict: {PyTorch name: array}, or a tree of params, used instead of saved weights.
            key_mapping: ordered {regular expression: replacement} on the checkpoint's names.
            verify: first compare the sha256 of every file with `checksums.json`
                (`save_pretrained(checksums=True)`).
            output_loading_info: return `(model, params, LoadingInfo)`.
            adapter_name, adapter_kwargs: what to call PEFT's adapter that lies there ("default" if
                None), and where it is, if elsewhere: `subfolder` ...; see `docs/adapters.md`.
            param_dtype: what the params are stored in: "auto" as in the checkpoint, a dtype or its
                name, or an ordered `{regular expression on the path: dtype}`; None is float32.
            mesh: place every leaf on it by `rules`; this process reads what its devices hold.
            shardings: instead of `mesh`: a tree of `jax.sharding.Sharding`, or one for all leaves.
            tp_plan, tp_size, device_mesh, distributed_config: Transformers' words for `mesh` and
                `rules`; see `docs/sharding.md`.
            max_host_memory: bytes of host memory to use beyond the finished params, or "500MB".
            device_map: instead of `mesh`, where modules go as a whole: a device, its name or
                number; {prefix of paths: device, "cpu" for host memory, "disk"}, the longest prefix
                counts; or "auto", "balanced", "balanced_low_0", "sequential", which make such a map
                by memory.
            max_memory, offload_folder, offload_buffers: its limits; see `docs/offload.md`.
            quantization_config: how to quantise weights while they are read: a dict or an object of
                Transformers' (bitsandbytes, FP8), or a dict of ours; see `docs/quantized.md`.
                Kernels in the backbone become `fp.QTensor`s, if it says nothing else.
            load_in_8bit, load_in_4bit: old names of two such dicts.
            dequantize: decode weights that the checkpoint has quantised, into `param_dtype`, while
                they are read; else they stay packed, as `fp.QTensor`s.
            strict: refuse a backbone with leaves missing or tensors left over.
            ignore_mismatched_sizes: initialise leaves whose tensor has another shape.
            use_safetensors: True takes only safetensors, False never.
            from_pt, from_tf, from_flax: take only what PyTorch, TensorFlow or Flax writes. Without
                them, the first there is of safetensors, msgpack, and the others.
            variant: take `model.<variant>.safetensors` and its like, nothing else.
            weights_only: False passes over what is no tensor in PyTorch's pickles; no code runs.
            gguf_file: the GGUF file in the folder to read, of several parts the first; its metadata
                are the configuration. `name_or_path` may also be such a file, `x.gguf`.
            subfolder, revision, token, cache_dir, local_files_only, force_download: where in a
                repository, and whether to fetch it again, as in `huggingface_hub`.
            proxies: {"http" | "https" | "http://host": "host:port"}, of this process until the end.
            progress: show a bar if it takes longer than a second.
            **options: fields of the model (`scan_layers`, `remat`, `attn_implementation`), and,
                unless `config` is given, of the configuration, which they override. Keywords of
                Transformers act as ours do, or raise with what to write
                (`flaxmodels/calls/keyword_table.py`).

        Raises:
            fp.CheckpointError: a checkpoint that cannot be read, or is not this model's.
            ConfigError: a configuration that cannot be honoured.
            TypeError: a keyword that nothing here takes.
        """
        request = Request.of(f"{cls.__name__}.from_pretrained", name_or_path, model_args, options)
        return load(request.for_class(cls), lambda *_: cls)

    @classmethod
    @shows(defaults_of(PlanOptions))
    def load_tf_weights(
        cls, config: Config, path: str | os.PathLike, **options: Unpack[PlanKeywords]
    ) -> fp.Params:
        """Reads the params of a TensorFlow checkpoint (H5, `model.ckpt`, or a folder with one),
        every leaf of this model out of it; nothing is initialised.

        Args:
            **options: as `from_pretrained`: param_dtype, mesh, shardings, max_host_memory, strict,
                ignore_mismatched_sizes.

        Raises:
            fp.CheckpointError: not TensorFlow's, or not all of this model.
        """
        plan_options = value_of(PlanOptions, options, f"{cls.__name__}.load_tf_weights")
        return load_tf(cls(config), os.fspath(path), plan_options)
