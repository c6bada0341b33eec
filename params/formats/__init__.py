"""Checkpoint formats: each opens as a `Source`, name -> lazy tensor."""

from .diagnosis import without_config as without_config
from .files import File as File
from .files import LocalFile as LocalFile
from .files import check_size as check_size
from .folder_file import FolderFile as FolderFile
from .open import open_checkpoint as open_checkpoint
from .registry import MSGPACK as MSGPACK
from .registry import ORBAX as ORBAX
from .registry import SAFETENSORS as SAFETENSORS
from .registry import Format as Format
from .registry import is_main_file as is_main_file
from .registry import is_weights as is_weights
from .registry import is_weights_file as is_weights_file
from .registry import main_files as main_files
from .shard_index import is_plain as is_plain
from .source import Source as Source
from .source import Tensor as Tensor
from .source import are_equal as are_equal
from .store import LOCAL as LOCAL
from .store import Reads as Reads
from .store import Store as Store
