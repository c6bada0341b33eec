"""The base of every model: a linen module with a frozen config, and no arrays."""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, Unpack, overload

from .. import params as fp
from ..adapters.loading import LoadsAdapters
from ..adapters.model_methods import HasAdapters
from ..analysis.measures import Measures
from ..calls.signature import defaults_of, params_first, shows, value_of
from ..checkpoints.load_methods import Loads
from ..checkpoints.options import ModelFields, SaveAndPushKeywords, SaveKeywords
from ..checkpoints.publishing.methods import Publishes
from ..checkpoints.publishing.push import save_and_push
from ..checkpoints.save import save
from ..checkpoints.save_options import SaveOptions
from ..config.config import Config
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
_BESIDE = ("push_to_hub", "saved_model", "version", "signatures")
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
    Loads,
    Publishes,
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

    @params_first
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
            save_function: called with ({name: array}, path) of each file, instead of the format.
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
            given = value_of(SaveOptions, options, "save_pretrained", _BESIDE)
            save(self, params, folder, given)
            pushed = None
        if export is not None:
            export()
        return pushed

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
