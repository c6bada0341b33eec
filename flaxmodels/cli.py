"""The command line, under the name that scripts import; see `flaxmodels.commands.cli`."""

from .commands.cli import main as main
