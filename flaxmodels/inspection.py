"""Inspecting checkpoints, under the name that scripts import; see `flaxmodels.commands.inspect`."""

from .commands.inspect import leaves_of as leaves_of
from .commands.inspect import page as page
