"""Pushing, under the name that scripts import; see `flaxmodels.checkpoints.publishing.push`."""

from .checkpoints.publishing.push import _files as _files
from .checkpoints.publishing.push import push as push
