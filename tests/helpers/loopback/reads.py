"""The loopback Hub's downloads and listings."""

import hashlib
import re
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from loopback.api import DATE, USER, Call, Refusal, json_answer, route, store
from loopback.server import Answer, Request

# Downloads


@route("GET", "/{repo}/resolve/{revision}/{path}")
def _resolve(call: Call) -> Answer:
    file, headers = _file(call)
    if not file.lfs:
        return _small(call, file, headers)
    headers |= {
        "Location": f"{call.hub.cdn}/lfs/get/{file.sha256}",
        "X-Linked-Etag": f'"{file.sha256}"',
        "X-Linked-Size": str(len(file.data)),
    }
    return Answer(302, f"Found. Redirecting to {headers['Location']}".encode(), headers)


def _file(call: Call) -> tuple[Any, dict[str, str]]:
    """The file asked for, and the headers that say which it is."""
    commit = call.commit(call.read())
    file = commit.files.get(call.path)
    if file is None:
        raise Refusal(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.oid)
    return file, {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"'}


def _small(call: Call, file: Any, headers: dict[str, str]) -> Answer:
    repo = call.hub.repo(call.repo)
    if not call.hub.redirects or repo.private or repo.gated or not file.data:
        return _bytes(call.request, file.data, headers)
    path = f"{repo.name}/{headers['X-Repo-Commit']}/{call.path}"
    query = urlencode({"etag": headers["ETag"]})
    headers["Location"] = f"/api/resolve-cache/models/{quote(path)}?{query}"
    return Answer(307, b"", headers)


@route("GET", "/api/resolve-cache/models/{repo}/{revision}/{path}")
def _get_small(call: Call) -> Answer:
    file, headers = _file(call)
    return _bytes(call.request, file.data, headers)


@route("GET", "/lfs/get/{oid}", port="cdn")
def _get_object(call: Call) -> Answer:
    data = store(call).objects.get(call.oid)
    if data is None:
        raise Refusal(404, "NoSuchKey")
    etag = hashlib.md5(data).hexdigest()  # the store's, of no use to the client
    return _bytes(call.request, data, {"ETag": f'"{etag}"'})


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
