"""The loopback Hub's protocol: a table from requests to functions that answer them.

Facts are those of the real Hub as huggingface_hub 2.4.0 meets it: paths, JSON, and above all the
headers that decide (X-Repo-Commit, ETag, X-Linked-*, X-Error-Code).
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from _hub_server import Answer, Request

USER = "tester"
GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"  # of every new repository
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


def _bytes(request: Request, data: bytes, headers: dict[str, str]) -> Answer:
    """200, or 206 where one range is asked for."""
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"} | headers
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers["Range"] or "")
    if not asked or asked[0] == "bytes=-":
        return Answer(200, data, headers)
    start, stop = int(asked[1] or 0), min(int(asked[2] or len(data)) + 1, len(data))
    if not asked[1]:  # the last so many
        start, stop = max(0, len(data) - int(asked[2])), len(data)
    if start >= stop:
        return Answer(416, headers={"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Answer(206, data[start:stop], headers)


# Downloads


@route("GET", "/{repo}/resolve/{revision}/{path}")
def _resolve(call: Call) -> Answer:
    commit = call.commit(call.read())
    file = commit.files.get(call.path)
    if file is None:
        raise Refusal(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.oid)
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"'}
    if not file.lfs:
        return _bytes(call.request, file.data, headers)
    headers |= {
        "Location": f"{call.hub.cdn}/lfs/get/{file.sha256}",
        "X-Linked-Etag": f'"{file.sha256}"',
        "X-Linked-Size": str(len(file.data)),
    }
    return Answer(302, f"Found. Redirecting to {headers['Location']}".encode(), headers)


@route("GET", "/lfs/get/{oid}", port="cdn")
def _get_object(call: Call) -> Answer:
    data = store(call).objects.get(call.oid)
    if data is None:
        raise Refusal(404, "NoSuchKey")
    etag = hashlib.md5(data).hexdigest()  # the store's, of no use to the client
    return _bytes(call.request, data, {"ETag": f'"{etag}"'})


def store(call: Call) -> Any:
    """The Hub, if the address alone gives the right: the store refuses a second way to prove it."""
    if "Authorization" in call.request.headers:
        raise Refusal(400, "Only one auth mechanism allowed")
    return call.hub


# What is there


@route("GET", "/api/models/{repo}")
@route("GET", "/api/models/{repo}/revision/{revision}")
def _info(call: Call) -> Answer:
    repo = call.see()
    commit = call.commit(repo)
    blobs = call.request.query.get("blobs") == "true"
    siblings = [
        {"rfilename": path} | (_blob(file) if blobs else {})
        for path, file in sorted(commit.files.items())
    ]
    return json_answer(
        {
            "_id": hashlib.sha1(repo.name.encode()).hexdigest()[:24],
            "id": repo.name,
            "modelId": repo.name,
            "author": repo.name.partition("/")[0],
            "sha": commit.oid,
            "lastModified": DATE,
            "createdAt": DATE,
            "private": repo.private,
            "gated": repo.gated,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
        }
    )


def _blob(file: Any) -> dict:
    lfs = {"sha256": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
    blob = {"size": len(file.data), "blobId": file.blob}
    return blob | {"lfs": lfs} if file.lfs else blob


def _entries(commit: Any) -> dict[str, dict]:
    """Path -> how a listing shows it: every file, and every folder above one."""
    entries = {}
    for path, file in sorted(commit.files.items()):
        names = path.split("/")
        for depth in range(1, len(names)):
            folder = "/".join(names[:depth])
            inside = [
                f"{p} {f.blob}" for p, f in commit.files.items() if p.startswith(f"{folder}/")
            ]
            oid = hashlib.sha1("\n".join(sorted(inside)).encode()).hexdigest()
            entries[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
        entry = {"type": "file", "oid": file.blob, "size": len(file.data), "path": path}
        if file.lfs:
            sizes = {"size": len(file.data), "pointerSize": len(file.pointer)}
            entry["lfs"] = {"oid": file.sha256} | sizes
        entries[path] = entry
    return entries


@route("GET", "/api/models/{repo}/tree/{revision}[/{path}]")
def _tree(call: Call) -> Answer:
    repo = call.see()
    entries, query = _entries(call.commit(repo)), call.request.query
    inside = f"{call.path}/" if call.path else ""
    listed = [entry for path, entry in entries.items() if path.startswith(inside)]
    if inside and not listed:
        raise Refusal(404, f"{call.path} does not exist on {call.revision}", "EntryNotFound")
    if query.get("recursive") != "true":
        listed = [entry for entry in listed if "/" not in entry["path"][len(inside) :]]
    start = int(query.get("cursor", 0))
    stop = start + min(call.hub.page, int(query.get("limit", call.hub.page)))
    answer = json_answer(listed[start:stop])
    if stop < len(listed):
        url = f"{call.hub.endpoint}{call.request.path}?{urlencode(query | {'cursor': stop})}"
        answer.headers["Link"] = f'<{url}>; rel="next"'
    return answer


@route("POST", "/api/models/{repo}/paths-info/{revision}")
def _paths_info(call: Call) -> Answer:
    entries = _entries(call.commit(call.see()))
    if "json" in (call.request.headers["Content-Type"] or ""):
        paths = call.request.json()["paths"]
    else:
        paths = parse_qs(call.request.body.decode()).get("paths", [])
    return json_answer([entries[path.strip("/")] for path in paths if path.strip("/") in entries])


@route("GET", "/api/models/{repo}/refs")
def _refs(call: Call) -> Answer:
    kinds = {"heads": "branches", "tags": "tags", "convert": "converts", "pr": "pullRequests"}
    refs: dict[str, list] = {name: [] for name in kinds.values()}
    for ref, oid in call.see().refs.items():
        _, kind, name = ref.split("/", 2)
        name = ref if kind == "pr" else name
        refs[kinds[kind]].append({"name": name, "ref": ref, "targetCommit": oid})
    if "include_prs" not in call.request.query:
        del refs["pullRequests"]
    return json_answer(refs)


@route("GET", "/api/models/{repo}/commits/{revision}")
def _commits(call: Call) -> Answer:
    repo = call.see()
    log = repo.log(call.commit(repo).oid)
    keys = {"authors": [{"user": USER}], "date": DATE}
    return json_answer(
        [{"id": c.oid, "title": c.summary, "message": c.description} | keys for c in log]
    )


@route("GET", "/api/whoami-v2")
def _whoami(call: Call) -> Answer:
    may = call.may()
    if call.request.token is None:
        raise Refusal(401, "Invalid username or password.")
    auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": may}}
    return json_answer({"type": "user", "id": "1", "name": USER, "orgs": [], "auth": auth})


@route("GET", "/api/models/{repo}/auth-check")
def _may_read(call: Call) -> Answer:
    call.read()
    return json_answer({})


@route("GET", "/api/models/{repo}/auth-check/write")
def _may_write(call: Call) -> Answer:
    call.write()
    return json_answer({})


# Repositories and branches


@route("POST", "/api/repos/create")
def _create(call: Call) -> Answer:
    call.need_write()
    asked = call.request.json()
    if asked.get("type") not in (None, "model"):
        raise Refusal(400, "The loopback Hub holds models only")
    repo = call.hub.repo(f"{asked.get('organization') or USER}/{asked['name']}")
    made = {"url": f"{call.hub.endpoint}/{repo.name}", "name": repo.name}
    if repo.exists:
        return json_answer(made | {"error": "You already created this model repo"}, 409)
    repo.exists = True
    repo.private = asked.get("visibility") == "private"
    file = call.hub.file(".gitattributes", GITATTRIBUTES)
    repo.add("refs/heads/main", None, {".gitattributes": file}, "initial commit", "")
    return json_answer(made)


@route("DELETE", "/api/repos/delete")
def _delete(call: Call) -> Answer:
    asked = call.request.json()
    call.parts["repo"] = f"{asked.get('organization') or USER}/{asked['name']}"
    repo = call.write()
    repo.exists = False
    repo.refs.clear()
    repo.commits.clear()
    return json_answer({})


@route("PUT", "/api/models/{repo}/settings")
def _settings(call: Call) -> Answer:
    repo, asked = call.write(), call.request.json()
    repo.gated = asked.get("gated", repo.gated)
    if "visibility" in asked:
        repo.private = asked["visibility"] == "private"
    return json_answer({"private": repo.private, "gated": repo.gated})


@route("POST", "/api/models/{repo}/branch/{revision}")
def _branch(call: Call) -> Answer:
    repo = call.write()
    return _point(call, repo, repo.ref(call.revision), call.request.json().get("startingPoint"))


@route("POST", "/api/models/{repo}/tag/{revision}")
def _tag(call: Call) -> Answer:
    ref = f"refs/tags/{call.request.json()['tag']}"
    return _point(call, call.write(), ref, call.revision)


def _point(call: Call, repo: Any, ref: str, start: str | None) -> Answer:
    if ref in repo.refs:
        raise Refusal(409, f"Reference already exists: {ref}")
    call.parts["revision"] = start
    repo.refs[ref] = call.commit(repo).oid
    return json_answer({})


@route("DELETE", "/api/models/{repo}/branch/{revision}")
def _drop_branch(call: Call) -> Answer:
    repo = call.write()
    if repo.refs.pop(repo.ref(call.revision), None) is None:
        raise Refusal(404, f"Invalid rev id: {call.revision}", "RevisionNotFound")
    return json_answer({})
