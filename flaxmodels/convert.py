"""Converting checkpoints, under the name that scripts import; see `flaxmodels.commands.convert`."""

from .commands.convert import convert as convert
