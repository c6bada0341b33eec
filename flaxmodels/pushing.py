"""Pushing, under the name that scripts import; see `flaxmodels.checkpoints.push`."""

from .checkpoints.push import _files as _files
from .checkpoints.push import push as push
