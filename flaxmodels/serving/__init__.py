"""Models as exported programs: written, and run without the code that made them."""

from .arrays import Spec as Spec
from .errors import ServingError as ServingError
from .exporting import export as export
from .manifest import Manifest as Manifest
from .served import Served as Served
from .served import load as load
from .signatures import Signature as Signature
