"""A token goes to the Hub and to nobody else, and neither it nor a signed address is ever told."""

import itertools
import logging
import os
import re
import traceback
from urllib.parse import quote

import pytest
from _downloads import CONFIG, FIRST, NAME, SECOND, SHARDS, files_of, is_whole, load, no_pauses
from _paths import SHARDED
from loopback import Fault
from loopback.web import serving

import flaxmodels as fm
from flaxmodels.hub import HubError, HubOptions, errors, resolve
from flaxmodels.hub.errors import scrubbed

TOKEN = "hf_readreadread"
SIGNED = "?X-Amz-Signature=5ec4e7&Expires=1"


@pytest.fixture(autouse=True)
def commit(hub, monkeypatch, caplog, capfd, tmp_path):
    """A private repository; nothing that is printed, logged or kept has the token."""
    caplog.set_level(logging.DEBUG)
    no_pauses(monkeypatch)
    hub.tokens = {TOKEN: "read"}
    hub.repo(NAME).private = True
    hub.repo(NAME).gated = True
    hub.repo(NAME).allowed = {TOKEN}
    yield hub.commit(NAME, files_of(SHARDED))
    printed = capfd.readouterr()
    for text in (caplog.text, printed.out, printed.err):
        assert TOKEN not in text
    for path in (tmp_path / "hf" / "hub").rglob("*"):
        assert TOKEN not in str(path)
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def log_in(tmp_path):
    (tmp_path / "hf").mkdir(exist_ok=True)
    (tmp_path / "hf" / "token").write_text(TOKEN)


def asked(hub):
    """The tokens that the Hub and the CDN were shown."""
    return tuple({r.token for r in hub.requests.of(port=port)} for port in ("hub", "cdn"))


@pytest.mark.parametrize("given", ["text", "login", "login, True", "environment"])
def test_P13_14_the_token_goes_to_the_hub_alone(given, hub, tmp_path, monkeypatch):
    if given.startswith("login"):
        log_in(tmp_path)
    elif given == "environment":
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    token = {"text": TOKEN, "login, True": True}.get(given)
    assert is_whole(load(token=token)[1])
    assert asked(hub) == ({TOKEN}, {None})


def test_P13_14_no_token_where_none_is_wanted(hub, tmp_path, monkeypatch):
    log_in(tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(HubError, match="no such repository on the Hub, or a private one"):
        load(token=False)
    hub.repo(NAME).private = hub.repo(NAME).gated = False
    assert is_whole(load(token=False)[1])
    assert asked(hub) == ({None}, {None})


def test_P13_14_a_login_that_is_not_there(hub):
    with pytest.raises(HubError, match="no login is stored: run `hf auth login`"):
        load(token=True)
    assert not hub.requests


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("hf_wrongwrong", "refuses .401.: log in with `hf auth login`"),
        ("hf_wrongwrong\n", "token is empty, or has blanks"),
        ("hf_wröngwrong", "or characters that no token has"),
    ],
    ids=["wrong", "newline", "letters"],
)
def test_P13_14_a_token_that_is_wrong(token, message, hub):
    with pytest.raises(HubError, match=message) as caught:
        load(token=token)
    assert_nothing_said(caught.value, token.strip())
    assert len(hub.requests) <= 1


def test_P13_14_gated(hub):
    hub.repo(NAME).allowed = set()
    with pytest.raises(HubError, match=f"{NAME}@.*, {CONFIG}: gated: ask for access at") as caught:
        load(token=TOKEN)
    assert_nothing_said(caught.value)


def assert_nothing_said(error, token=TOKEN):
    said = "".join(traceback.format_exception(error))
    for secret in (token, "5ec4e7", "X-Amz-Signature="):
        assert secret not in said, said


def test_what_can_be_printed(hub):
    _, _, info = load(token=TOKEN, output_loading_info=True)
    found = resolve(NAME, HubOptions(token=TOKEN))
    parts = [info, info.plan, str(info.plan), found, found.store, vars(found.store)["repository"]]
    parts += [vars(info.plan.match.source), *map(vars, found.open().files)]
    assert TOKEN not in "".join(map(repr, parts))


# Elsewhere


@pytest.mark.parametrize("file", [CONFIG, FIRST, SECOND])
@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("how", ["redirect", "location"])
def test_a_redirect_to_another_host(how, good, file, hub):
    """The host sees no token, and what it gives is compared with the Hub's hash."""
    data = files_of(SHARDED)[file]
    with serving({"file": data if good else data[::-1]}) as web:
        to, path = f"{web.url}/file", f"*/resolve/*/{file}"
        if how == "redirect" or file == CONFIG:  # only of large files does the Hub say where
            hub.fault(Fault("redirect", method="GET", path=path, to=to, times=None))
        else:
            hub.fault(Fault("headers", path=path, headers={"Location": to}, times=None))
        if good:
            assert is_whole(load(token=TOKEN)[1])
        else:
            with pytest.raises(fm.CheckpointError, match=file) as caught:
                load(token=TOKEN)
            assert_nothing_said(caught.value)
        assert web.asked
        assert [h for _, _, h in web.asked if h["Authorization"] is not None] == []


@pytest.mark.parametrize("what", ["status", "reset", "corrupt"])
def test_errors_have_no_signed_addresses(what, hub):
    for shard in SHARDS:
        sha256 = hub.repo(NAME).find("main").files[shard].sha256
        location = {"Location": f"{hub.cdn}/lfs/get/{sha256}{SIGNED}"}
        hub.fault(Fault("headers", path=f"*/{shard}", headers=location, times=None))
    details = {"code": 503} if what == "status" else {}
    hub.fault(Fault(what, port="cdn", times=None, skip=5, **details))
    with pytest.raises(HubError, match="model-0") as caught:
        load(token=TOKEN)
    assert_nothing_said(caught.value)
    assert any("X-Amz-Signature" in request.query for request in hub.requests.of(port="cdn"))


@pytest.mark.parametrize("file", [CONFIG, SECOND, "/api/models/org/name/revision/main"])
@pytest.mark.parametrize("code", [400, 401, 403, 404, 500])
def test_a_server_that_repeats_the_token(code, file, hub):
    said = f"your Bearer {TOKEN} at https://host/x{SIGNED}"
    headers = {"X-Error-Message": said}
    hub.fault(Fault("status", path=f"*{file}", code=code, times=None, body=said, headers=headers))
    with pytest.raises(HubError, match=NAME) as caught:
        load(token=TOKEN)
    assert_nothing_said(caught.value)


def test_a_server_that_is_down(hub):
    hub.stop()
    with pytest.raises(HubError, match="cannot be reached") as caught:
        load(token=TOKEN)
    assert_nothing_said(caught.value)


def test_the_environment_stays_as_it_was(hub):
    before = dict(os.environ)
    load(token=TOKEN)
    assert dict(os.environ) == before


SECRETS = {
    "access": "hf_AbCdEfGhIjKlMnOp",
    "oauth": "hf_oauth_eyJhbGciOiJFZERTQSJ9.eyJzY29wZSI6Wy.Pq-rs_Tu.v~w",
    "jwt": "hf_jwt_eyJhbGciOiJFZERTQSIsImtpZCI6.AbCd-Ef_gh",
    "app": "hf_app_12345.x+y/z==",
    "organisation": "api_org_QwErTyUiOpAsDf",
    "web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.SflKxwRJ-SM_e",
    "unknown kind": "corp-9f8e7d6c5b4a",
}
SHAPES = {
    "plain": "token {} is bad",
    "quoted": "the token '{}', of whom?",
    "in a key": '{{"token": "{}", "error": "no"}}',
    "header": "headers: {{'authorization': 'Bearer {}'}}",
    "basic": "Authorization: Basic {}",
    "query": "GET https://cdn.test/x?token={}&Expires=1 failed",
    "relative": "GET /lfs/x?X-Amz-Credential=me&X-Amz-Signature={} failed",
    "user": "https://me:{}@hub.test/org/name says no",
    "proxy": "proxy me:{}@10.0.0.1:3128 says no",
    "upper": "HTTPS://me:{}@hub.test/a",
    "glued": "HF_TOKEN={};next",
    "after a letter": "_{}",
    "two": "{0} {0}",
}


def test_hostile_17_no_part_of_a_token_is_told(monkeypatch):
    monkeypatch.setattr(errors, "_known", {SECRETS["unknown kind"]})
    for (kind, secret), (shape, text) in itertools.product(SECRETS.items(), SHAPES.items()):
        said = scrubbed(text.format(secret))
        parts = [part for part in re.split(r"[^0-9A-Za-z]", secret) if len(part) > 3]
        told = [part for part in parts if part in said and part != "oauth"]
        assert not told, (kind, shape, said)
        assert "***" in said or shape in ("user", "upper"), (kind, shape, said)


def test_a_token_that_was_given_is_not_told_in_any_form(hub):
    token = "a b/c%d-of no known kind"
    with pytest.raises(HubError):
        load(token=token)
    said = scrubbed(f"{token} {quote(token, safe='')} {token!r} {{'t': {token!r}}}")
    assert "known kind" not in said and "known%20kind" not in said


def test_what_is_no_secret_stays():
    for said in (
        "org/name@0123456789ab, config.json: the Hub answers 503 (tried 6 times): busy",
        "https://huggingface.co/org/name/resolve/main/model.safetensors: no such file",
        "set cache_dir or HF_HOME; HF_HUB_OFFLINE is set, log in with `hf auth login`",
        "at 12:30, user@host.test, 3 tokens, hf_x",
    ):
        assert scrubbed(said) == said
