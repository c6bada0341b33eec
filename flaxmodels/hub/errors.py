"""`HubError`, and texts without secrets."""

import re
from urllib.parse import quote, urlsplit, urlunsplit

from .. import params as fp

_END = r"\s'\"<>()\[\]{},;"  # what ends a secret in a text
_OURS = r"(?:hub_download|hub_url|raise_for_status|transfer|xet)\b"  # of the client
# A token of the Hub, with all that hangs on it: hf_..., hf_oauth_<three parts>, hf_jwt_...
_TOKEN = re.compile(rf"(?<![0-9A-Za-z])(?:hf_|api_)(?!{_OURS})[^{_END}]{{4,}}")
_CREDENTIALS = re.compile(
    rf"(?i:\b(?:bearer|basic)\s+)[^{_END}]+"
    rf"|(?i:\b(?:authorization|cookie|x-[a-z-]*(?:token|key|auth)[a-z-]*)['\"]?\s*[:=]\s*['\"]?)"
    rf"(?:[A-Za-z]+\s+)?[^{_END}]+"
    rf"|(?<![0-9A-Za-z])eyJ[0-9A-Za-z_-]{{8,}}(?:\.[0-9A-Za-z_-]*)*"  # a JSON web token
    rf"|(?i:\b[\w-]*(?:token|secret|password|passwd|signature|credential|api[_-]?key)"
    rf"['\"]?=['\"]?)[^{_END}&]+"
)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)]+", re.IGNORECASE)
_QUERY = re.compile(r"\?[\w.~%-]+=[^\s'\"<>)]*")  # of an address without its host
_USER = re.compile(r"(?<![\w/.-])[\w.+-]+:[^\s@/'\"<>]+@(?=[\w.-]+)")
_SHORTEST = 6  # characters of a token; a shorter one would be found in plain words
_known: set[str] = set()


class HubError(fp.CheckpointError):
    """The Hub does not have something, or does not give it.

    Attributes:
        may_pass: whether it may work at another time.
    """

    def __init__(self, message: str, *, may_pass: bool = False):
        super().__init__(message)
        self.may_pass = may_pass


def keep_secret(token: object) -> None:
    """Lets `scrubbed` remove this token, in any form, from now on."""
    if isinstance(token, str) and len(token.strip()) >= _SHORTEST:
        _known.add(token.strip())


def scrubbed(text: object) -> str:
    """Removes tokens from a text, and the queries of addresses, which may be signatures."""
    result = str(text)
    for token in sorted({*_known, *_stored()}, key=len, reverse=True):
        for form in (token, quote(token, safe=""), repr(token)[1:-1]):
            result = result.replace(form, "***")
    # Addresses first: one goes on after a token.
    result = _USER.sub("***@", _ADDRESS.sub(_bare, result))
    return _QUERY.sub("?***", _TOKEN.sub("***", _CREDENTIALS.sub("***", result)))


def _stored() -> set[str]:
    """Returns the token of this machine's login, if it can be read."""
    try:
        from huggingface_hub import get_token

        token = get_token()
    except Exception:  # of a library that is not there, or a file that cannot be read
        return set()
    return {token} if token and len(token) >= _SHORTEST else set()


def _bare(match: re.Match[str]) -> str:
    try:
        parts = urlsplit(match[0])
    except ValueError:  # not an address after all
        return "***"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))
