"""The Hub: from a name to files (`resolve`), and from files to a commit (`upload`)."""

from ..documents.front_matter import CARD_NAME as CARD_NAME
from ..documents.front_matter import Words as Words
from .companions import companions as companions
from .companions import copy_companion as copy_companion
from .companions import is_companion as is_companion
from .errors import HubError as HubError
from .name_or_path import checked_name as checked_name
from .options import DEFAULT_OPTIONS as DEFAULT_OPTIONS
from .options import HubKeywords as HubKeywords
from .options import HubOptions as HubOptions
from .repository import check_name as check_name
from .repository import commit_of as commit_of
from .repository import name_of as name_of
from .resolve import Location as Location
from .resolve import download as download
from .resolve import fetched as fetched
from .resolve import resolve as resolve
from .resolve import tokenizer_files as tokenizer_files
from .session import proxied as proxied
from .upload import Push as Push
from .upload import check_message as check_message
from .upload import push_files as push_files
from .upload import pushing as pushing
