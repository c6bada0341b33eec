"""`model.prepare_dataset`."""

from ..core.model import Mixin
from .prepare import prepare


class PreparesDatasets(Mixin):
    """A model that makes batches of datasets: `fm.data.prepare` as a method. Its first arguments
    are those of Transformers' `prepare_tf_dataset`."""

    prepare_dataset = prepare
