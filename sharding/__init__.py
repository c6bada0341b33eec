"""Where arrays live: meshes, logical axes, and the shardings that follow from them."""

from .axes import AbstractParam as AbstractParam
from .axes import Axes as Axes
from .axes import Draw as Draw
from .axes import declared_axes as declared_axes
from .axes import with_axes as with_axes
from .joining import initialize as initialize
from .mesh import check_mesh as check_mesh
from .mesh import explicit_axes as explicit_axes
from .mesh import make_mesh as make_mesh
from .rules import DEFAULT_RULES as DEFAULT_RULES
from .rules import Rules as Rules
from .rules import as_rules as as_rules
from .rules import check_rules as check_rules
from .rules import constrain as constrain
from .rules import default_rules as default_rules
from .rules import partition_spec as partition_spec
from .rules import shardings as shardings
from .show import picture as picture
from .varying import varying as varying
