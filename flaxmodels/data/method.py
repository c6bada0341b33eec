"""`model.prepare_dataset`."""

from collections.abc import Callable, Mapping
from typing import Any, Unpack

from ..calls.signature import defaults_of, shows
from ..core.model import Mixin
from .batches import Batches
from .options import DataKeywords, DataOptions
from .prepare import prepare


class PreparesDatasets(Mixin):
    """A model that makes batches of datasets."""

    @shows(defaults_of(DataOptions))
    def prepare_dataset(
        self,
        dataset: Any,
        batch_size: int = 8,
        shuffle: bool = True,
        tokenizer: Any = None,
        collate_fn: Callable[..., Mapping[str, Any]] | None = None,
        collate_fn_args: Mapping[str, Any] | None = None,
        drop_remainder: bool | None = None,
        prefetch: bool = True,
        **options: Unpack[DataKeywords],
    ) -> Batches:
        """Makes batches of a dataset: `fm.data.prepare(self, dataset, ...)`, which says what the
        arguments are. They are those of Transformers' `prepare_tf_dataset`, and more."""
        given = tokenizer, collate_fn, collate_fn_args, drop_remainder, prefetch
        return prepare(self, dataset, batch_size, shuffle, *given, **options)
