"""What changes the loopback Hub: repositories, branches, uploads of large files, commits."""

import base64
import hashlib
import json
from fnmatch import fnmatchcase
from typing import Any

from loopback.api import USER, Call, Refusal, json_answer, route, store
from loopback.server import Answer

GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"  # of every new repository

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


# Uploads


@route("POST", "/api/validate-yaml")
def _validate_yaml(call: Call) -> Answer:
    return json_answer({"warnings": [], "errors": []})


@route("POST", "/api/models/{repo}/preupload/{revision}")
def _preupload(call: Call) -> Answer:
    there, asked = call.commit(call.write()).files, call.request.json()
    ignored = asked.get("gitIgnore", "").split()

    def told(path: str, size: int) -> dict:
        return {
            "path": path,
            "uploadMode": "lfs" if call.hub.is_large(path, size) else "regular",
            "shouldIgnore": any(fnmatchcase(path, pattern) for pattern in ignored),
            "oid": there[path].etag if path in there else None,
        }

    return json_answer({"files": [told(file["path"], file["size"]) for file in asked["files"]]})


@route("POST", "/{repo}.git/info/lfs/objects/batch")
def _batch(call: Call) -> Answer:
    call.write()
    objects = [
        _upload_of(call, item["oid"], item["size"]) for item in call.request.json()["objects"]
    ]
    transfer = "basic" if call.hub.multipart is None else "multipart"
    return json_answer({"transfer": transfer, "objects": objects})


def _upload_of(call: Call, oid: str, size: int) -> dict:
    """Where an object is to be put; no "actions" where it is already."""
    hub = call.hub
    answer = {"oid": oid, "size": size}
    if oid in hub.objects:
        return answer
    put, step = f"{hub.cdn}/lfs/put/{oid}", hub.multipart
    upload: dict[str, Any] = {"href": put}
    if step is not None:
        urls = {
            str(1 + start // step): f"{put}/{1 + start // step}" for start in range(0, size, step)
        }
        upload = {
            "href": f"{hub.endpoint}/lfs/complete/{oid}",
            "header": {"chunk_size": str(step)} | urls,
        }
    verify = {"href": f"{hub.endpoint}/{call.repo}.git/info/lfs/objects/verify"}
    return answer | {"actions": {"upload": upload, "verify": verify}}


@route("PUT", "/lfs/put/{oid}", port="cdn")
def _put(call: Call) -> Answer:
    return _keep(store(call), call.oid, call.request.body)


@route("PUT", "/lfs/put/{oid}/{part}", port="cdn")
def _put_part(call: Call) -> Answer:
    store(call).parts[call.oid, int(call.part)] = call.request.body
    return Answer(headers={"ETag": _part_etag(call.request.body)})


@route("POST", "/lfs/complete/{oid}")
def _complete(call: Call) -> Answer:
    bodies = []
    for part in call.request.json()["parts"]:
        body = call.hub.parts.get((call.oid, part["partNumber"]), b"")
        if part["etag"] != _part_etag(body):
            raise Refusal(400, f"InvalidPart {part['partNumber']}")
        bodies.append(body)
    return _keep(call.hub, call.oid, b"".join(bodies))


def _part_etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def _keep(hub: Any, oid: str, data: bytes) -> Answer:
    if hashlib.sha256(data).hexdigest() != oid:
        raise Refusal(400, "XAmzContentSHA256Mismatch")
    hub.objects[oid] = data
    return Answer()


@route("POST", "/{repo}.git/info/lfs/objects/verify")
def _verify(call: Call) -> Answer:
    call.write()
    asked = call.request.json()
    if len(call.hub.objects.get(asked["oid"], b"")) != asked["size"]:
        raise Refusal(404, "The object is not there, or not of this size")
    return json_answer({})


@route("POST", "/api/models/{repo}/commit/{revision}")
def _commit(call: Call) -> Answer:
    repo = call.write()
    lines = [json.loads(line) for line in call.request.body.splitlines()]
    header = lines[0]["value"]
    head = call.commit(repo)
    ref = repo.ref(call.revision)
    if ref not in repo.refs:
        raise Refusal(400, f"{call.revision} is not a branch")
    if header.get("parentCommit", head.oid) != head.oid:
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for line in lines[1:]:
        _change(call.hub, files, line["key"], line["value"])
    number = None
    if "create_pr" in call.request.query:
        number = 1 + sum(ref.startswith("refs/pr/") for ref in repo.refs)
        ref = f"refs/pr/{number}"
    made = repo.add(ref, head.oid, files, header["summary"], header.get("description", ""))
    url = f"{call.hub.endpoint}/{repo.name}"
    return json_answer(
        {
            "success": True,
            "commitOid": made.oid,
            "commitUrl": f"{url}/commit/{made.oid}",
            "hookOutput": "",
            "pullRequestUrl": number and f"{url}/discussions/{number}",
        }
    )


def _change(hub: Any, files: dict, key: str, value: dict) -> None:
    path = value["path"]
    if path.startswith("/") or not {"", ".", "..", ".git"}.isdisjoint(path.rstrip("/").split("/")):
        raise Refusal(400, f"Invalid path: {path}")
    if key == "file":
        files[path] = hub.small_file(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if value["oid"] not in hub.objects:
            raise Refusal(400, f"An LFS pointer points to a file that does not exist: {path}")
        files[path] = hub.large_file(value["oid"])
    else:
        folder = f"{path.rstrip('/')}/"
        gone = [p for p in files if p == path or (key == "deletedFolder" and p.startswith(folder))]
        if not gone:
            raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
        for name in gone:
            del files[name]
