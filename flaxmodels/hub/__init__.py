"""The Hub: from a name to files, and back."""

from .client import HubError as HubError
from .client import proxied as proxied
from .repository import commit_of as commit_of
from .resolve import Found as Found
from .resolve import download as download
from .resolve import fetched as fetched
from .resolve import resolve as resolve
