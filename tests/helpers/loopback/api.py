"""The loopback Hub's protocol: a table from requests to functions that answer them.

Facts are those of the real Hub as huggingface_hub 2.4.0 meets it: paths, JSON, and above all the
headers that decide (X-Repo-Commit, ETag, X-Linked-*, X-Error-Code).
"""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from loopback.server import Answer, Request

USER = "tester"
DATE = "2026-01-02T03:04:05.000Z"

PARTS = {
    "[/{path}]": r"(?:/(?P<path>.+))?",
    "{repo}": r"(?P<repo>[^/]+(?:/[^/]+)?)",
    "{revision}": r"(?P<revision>[^/]+)",
    "{path}": r"(?P<path>.+)",
    "{oid}": r"(?P<oid>[0-9a-f]{64})",
    "{part}": r"(?P<part>[0-9]+)",
}
ROUTES: list[tuple[str, str, re.Pattern[str], Callable[..., Answer]]] = []


class Refusal(Exception):
    """An answer that is an error, with the code by which the client knows which."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        self.answer = json_answer({"error": message}, status)
        self.answer.headers["X-Error-Message"] = message
        if code is not None:
            self.answer.headers["X-Error-Code"] = code
        self.answer.headers |= {name.replace("_", "-"): value for name, value in headers.items()}


@dataclasses.dataclass
class Call:
    """What a route's function gets: the Hub, the request, and the path's parts, unquoted."""

    hub: Any
    request: Request
    parts: dict[str, str | None]

    def __getattr__(self, name: str) -> Any:
        return self.parts[name]

    def may(self) -> str | None:
        """What the request's token allows: "read", "write", or None if it has none."""
        token, tokens = self.request.token, self.hub.tokens
        if tokens is None:
            return "write"
        if token is not None and token not in tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return tokens.get(token)

    def need_write(self) -> None:
        may = self.may()
        if may is None:
            raise Refusal(401, "Invalid username or password.")
        if may != "write":
            raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")

    def see(self) -> Any:
        """The repository, if there is one that the token may know of."""
        repo, may = self.hub.repo(self.repo), self.may()
        if not repo.exists or (repo.private and may is None):
            raise Refusal(404 if may else 401, "Repository not found", "RepoNotFound")
        return repo

    def read(self) -> Any:
        """The repository, if the token may have its files."""
        repo, token = self.see(), self.request.token
        if repo.gated and token not in repo.allowed and self.hub.tokens is not None:
            message = f"Access to model {repo.name} is restricted."
            raise Refusal(403 if token else 401, message, "GatedRepo")
        return repo

    def write(self) -> Any:
        repo = self.see()
        self.need_write()
        return repo

    def commit(self, repo: Any) -> Any:
        commit = repo.find(self.parts.get("revision") or "main")
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {self.revision}", "RevisionNotFound")
        return commit


def handle(hub: Any, request: Request) -> Answer:
    for port, method, pattern, function in ROUTES:
        match = pattern.fullmatch(request.path)
        asked = "GET" if request.method == "HEAD" else request.method
        if match and port == request.port and method == asked:
            parts = {name: part and unquote(part) for name, part in match.groupdict().items()}
            try:
                with hub.lock:
                    return function(Call(hub, request, parts))
            except Refusal as refusal:
                return refusal.answer
    return Refusal(404, "The loopback Hub does not know this path").answer


def route(method: str, path: str, port: str = "hub"):
    pattern = re.escape(path)
    for name, part in PARTS.items():
        pattern = pattern.replace(re.escape(name), part)

    def add(function: Callable[[Call], Answer]) -> Callable[[Call], Answer]:
        ROUTES.append((port, method, re.compile(pattern), function))
        return function

    return add


def json_answer(value: Any, status: int = 200) -> Answer:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(status, json.dumps(value).encode(), headers)


def store(call: Call) -> Any:
    """The Hub, if the address alone gives the right: the store refuses a second way to prove it."""
    if "Authorization" in call.request.headers:
        raise Refusal(400, "Only one auth mechanism allowed")
    return call.hub
