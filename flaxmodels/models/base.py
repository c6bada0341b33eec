"""The base of every model: a linen module with a frozen config, and no arrays."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, Unpack, overload

from .. import params as fp
from ..adapters.loading import LoadsAdapters
from ..adapters.model_methods import HasAdapters
from ..analysis.measures import Measures
from ..calls.signature import defaults_of, shows, value_of
from ..checkpoints.load import load, load_tf
from ..checkpoints.loading_info import LoadingInfo
from ..checkpoints.options import (
    CardFileKeywords,
    LoadKeywords,
    ModelFields,
    PlanKeywords,
    PushKeywords,
    SaveAndPushKeywords,
    SaveKeywords,
)
from ..checkpoints.plan import PlanOptions
from ..checkpoints.publishing.model_card import CardInfo, create_model_card
from ..checkpoints.publishing.push import PUSH_DEFAULTS, push, save_and_push
from ..checkpoints.request import DEFAULTS, UNSAID, NameOrPath, Request
from ..checkpoints.save import SaveOptions, save
from ..config.config import Config
from ..core.fields import as_tags
from ..core.model import Model
from ..data.prepare_method import PreparesDatasets
from ..editing.prune import prune_heads
from ..editing.vocabulary import HasVocabulary
from ..generation.generate import Generates
from ..generation.stream import Streams
from ..placement.engine import Staged
from ..placement.report import HasPlacementPlan
from ..registration import register_for_auto_class
from ..serving.arrays import Inputs
from ..serving.methods import Serves
from ..serving.saved_model import saved_model_of
from ..serving.signatures import Signature
from .mask_helpers import MaskHelpers
from .switches import Switches

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

Signatures: TypeAlias = Mapping[str, Signature | Inputs]
"""{name: what a function of an export takes}, as `fm.serving.export` has it."""
Pushed: TypeAlias = "CommitInfo | Any"
"""A commit; None in processes that do not push, which scripts of one process need not check for."""


class PretrainedModel(
    Staged,
    HasPlacementPlan,
    Generates,
    Streams,
    HasVocabulary,
    HasAdapters,
    LoadsAdapters,
    Measures,
    Serves,
    PreparesDatasets,
    MaskHelpers,
    Switches,
    Model,
):
    """A model with all that is done with one: loading, saving, running, generating, editing.

    Its fields are those of `flaxmodels.core.model.Model`.
    """

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

    def prune_heads(
        self, params: fp.PyTree, heads_to_prune: Mapping[int, Iterable[int]]
    ) -> tuple[Self, fp.Params]:
        """Returns `(model, params)` without some attention heads, given as {layer: heads}; see
        `flaxmodels.editing.prune.prune_heads`."""
        return prune_heads(self, params, heads_to_prune)

    @overload
    def save_pretrained(
        self,
        params: Mapping[str, object],
        folder: str | os.PathLike,
        *,
        push_to_hub: Literal[True],
        saved_model: bool | str = False,
        version: int | None = None,
        signatures: Signatures | None = None,
        **options: Unpack[SaveAndPushKeywords],
    ) -> Pushed: ...

    @overload
    def save_pretrained(
        self,
        params: Mapping[str, object],
        folder: str | os.PathLike,
        *,
        push_to_hub: Literal[False] = False,
        saved_model: bool | str = False,
        version: int | None = None,
        signatures: Signatures | None = None,
        **options: Unpack[SaveKeywords],
    ) -> None: ...

    @shows(defaults_of(SaveOptions))
    def save_pretrained(
        self,
        params: fp.PyTree,
        folder: str | os.PathLike,
        *,
        push_to_hub: bool = False,
        saved_model: bool | str = False,
        version: int | None = None,
        signatures: Signatures | None = None,
        **options: Any,
    ) -> Pushed:
        """Writes `config.json` and weights, so that `from_pretrained` and Transformers can read
        them. Other files in the folder stay, weights of an earlier save go. Of params with adapters
        the adapters alone are written, as by PEFT, unless `format` is "orbax".

        Args:
            params: the model's tree, looped or stacked as the model is; leaves that are spread over
                devices, or over the processes of a run, are put together one at a time.
            folder: made if absent. It holds the old checkpoint or the new one at any time.
            push_to_hub: then push what was saved, its tokenizer and its card to `repo_id` (the
                folder's name if None), and return the commit; more keywords as `push_to_hub`.
            saved_model: also write `saved_model/<version>/` in the folder, the model as a program:
                True as `fm.serving.export` does, "tensorflow" as a SavedModel of TensorFlow's,
                which must be installed. A version that is there is replaced; it is not pushed.
            version: of it; 1 if None.
            signatures: its functions, as `fm.serving.export` takes them.
            safe_serialization: safetensors under PyTorch names (opens in Transformers and vLLM);
                else flax msgpack under the names of old Flax checkpoints.
            format: "safetensors", "msgpack" or "orbax" (the tree itself), instead of
                `safe_serialization`.
            max_shard_size: bytes, or a string such as "5GB"; a larger tensor is a file of its own.
            variant: part of the files' names: `model.<variant>.safetensors`.
            select: which leaves to write (a mask); `params` may then lack the others.
            checksums: also write `checksums.json`, for `from_pretrained(verify=True)`.
            is_main_process: whether this process writes; process 0 does if None. Where leaves are
                spread over processes, all of them must call this, and they wait for each other.
            save_function: called with {name: array} and a path for each file, instead of the
                format.
            quant_method: the layout of quantised weights: "bitsandbytes" (int8, nf4, fp4) or "fp8",
                which Transformers opens, or "flaxmodels", which holds all.
            tokenizer_from: a folder or repository whose tokenizer's and processor's files come
                along.
            token: for that repository, as `from_pretrained`.
            progress: show a bar if it takes longer than a second.
            save_peft_format: begin the names of an adapter's tensors with "base_model.model.", as
                PEFT does.

        Raises:
            fp.CheckpointError: params that are not this model's, or the disk's own error; the
                folder is unchanged.
        """
        export = saved_model_of(self, params, folder, saved_model, version, signatures)
        if push_to_hub:
            pushed = save_and_push(self, params, folder, **options)
        else:
            save(self, params, folder, value_of(SaveOptions, options, "save_pretrained"))
            pushed = None
        if export is not None:
            export()
        return pushed

    @shows(PUSH_DEFAULTS)
    def push_to_hub(
        self, params: Mapping[str, object], repo_id: str, **options: Unpack[PushKeywords]
    ) -> Pushed:
        """Makes config and weights one commit of a repository, which is made if absent.

        Each file of weights is written into a temporary folder (in `TMPDIR`), uploaded, and removed
        before the next one. Nobody sees any of them before the commit, which also removes the
        weights of an earlier push; no other file of the repository goes. It gets a card if it has
        none; one that is there stays, but for metadata that it lacks.

        Args:
            params: the model's tree, as `save_pretrained` takes it.
            repo_id: "organisation/name", or a name in one's own namespace.
            use_temp_dir: False saves into the folder called `repo_id` and pushes from there; None
                does so if there is such a folder.
            commit_message: "Upload model" if None.
            private: of a repository that is made; its owner's default if None.
            token: None and True are the stored login.
            max_shard_size, safe_serialization, variant, format, checksums, quant_method,
                tokenizer_from, progress, save_peft_format: as `save_pretrained`. A `checksums.json`
                in the repository is kept up anyway.
            create_pr: open a pull request instead.
            revision: the branch, "main" if None; made if absent, as main is.
            tags: for the card, beside those that it has and those of `add_model_tags`.
            language, license, finetuned_from, tasks, dataset_tags, dataset, dataset_args, history:
                as `create_model_card`.

        Returns:
            huggingface_hub's `CommitInfo`: `oid`, `commit_url`, `pr_url`, `pr_revision`; where
            nothing differs, of the commit that is there. Where params are spread over processes,
            all of them must call this and get it; where not, process 0 pushes, and the others get
            None.

        Raises:
            HubError: nothing was pushed, and the branch is unchanged, unless it says otherwise.
            TypeError: an argument that there is not, or is no longer.
        """
        return push(self, params, repo_id, **options)

    def add_model_tags(self, tags: str | Iterable[str]) -> Self:
        """Returns the model with more tags, for the card of a repository that it is pushed to. Tags
        are in that card alone: a load does not bring them back, and a push loses none.

        Raises:
            ValueError: a tag that is no text, or empty.
        """
        return self.clone(model_tags=(*self.model_tags, *as_tags(tags)))

    @shows({"params": None, "files": None, "token": None, **defaults_of(CardInfo)})
    def create_model_card(
        self, output_dir: str | os.PathLike, model_name: str, **options: Unpack[CardFileKeywords]
    ) -> Path:
        """Writes `README.md`; see `create_model_card` of `checkpoints/publishing/model_card.py`."""
        return create_model_card(self, output_dir, model_name, **options)

    to_bf16 = staticmethod(fp.to_bf16)
    to_fp16 = staticmethod(fp.to_fp16)
    to_fp32 = staticmethod(fp.to_fp32)

    @classmethod
    def register_for_auto_class(cls, auto_class: str | type = "AutoModel") -> type[Self]:
        """Lets an auto class find this class; see `fm.register_for_auto_class`."""
        return register_for_auto_class(auto_class)(cls)

    @classmethod
    def from_config(cls, config: Config, **fields: Unpack[ModelFields]) -> Self:
        """Returns the model of a configuration; params come from `init_params`."""
        given: dict[str, Any] = {**fields}
        return cls(config, **given)
