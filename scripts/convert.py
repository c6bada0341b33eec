"""Any format to any: `python scripts/convert.py SOURCE FOLDER --format msgpack`; see `--help`."""

import sys

from flaxmodels.commands.cli import main

sys.exit(main(["convert", *sys.argv[1:]]))
