"""What is put around huggingface_hub: waits, texts, its session, the bar, and cancelling."""

import logging
import re
import signal
import threading
from concurrent.futures import CancelledError
from types import SimpleNamespace

import huggingface_hub as client
import pytest
from _downloads import LAST, NAME, SECOND, SHARDS, files_of, is_whole, load, no_pauses, refused
from _paths import SHARDED
from huggingface_hub.utils import _http
from huggingface_hub.utils._xet_progress_reporting import XetDownloadProgressReporter
from loopback import Fault

from flaxmodels.hub import proxied
from flaxmodels.hub.cancellation import Cancellation
from flaxmodels.hub.client import attempt
from flaxmodels.hub.errors import HubError, scrubbed
from flaxmodels.hub.progress import ProgressBar
from flaxmodels.hub.session import guarded


@pytest.fixture(autouse=True)
def waits(hub, monkeypatch):
    hub.commit(NAME, files_of(SHARDED))
    return no_pauses(monkeypatch)


# Waits


def test_a_wait_that_is_asked_for(hub, waits):
    for headers, least, most in (
        ({}, 0.5, 1),
        ({"Retry-After": "7"}, 7, 7),
        ({"Retry-After": "0"}, 0.5, 1),
        ({"Retry-After": " 7 "}, 7, 7),
        ({"Retry-After": "999999"}, 60, 60),
        ({"Retry-After": "9" * 30}, 60, 60),
        ({"Retry-After": "9" * 6000}, 60, 60),
        ({"Retry-After": "-5"}, 0.5, 1),
        ({"Retry-After": "\u00b2"}, 0.5, 1),
        ({"Retry-After": "Fri, 31 Dec 2999 23:59:59 GMT"}, 0.5, 1),
        ({"RateLimit": '"api";r=0;t=55'}, 55, 55),
        ({"RateLimit": '"api";r=0;t=86400'}, 60, 60),
        ({"RateLimit": '"api";r=9;t=55'}, 0.5, 1),
    ):
        waits.clear()
        hub.fault(Fault("status", path="/api/*", code=429, headers=headers))
        assert is_whole(load()[1])
        [waited] = waits
        assert least <= waited <= most and hub.waits == [], headers


def test_waits_grow_and_end(hub, waits):
    hub.fault(Fault("status", path="/api/*", code=503, times=None))
    refused(NAME, match="tried 6 times")
    assert len(waits) == 5
    assert all(2**i / 2 <= waited <= 2**i for i, waited in enumerate(waits))


# Texts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("token hf_abcdEFGH0 end", "token *** end"),
        ("Bearer abc.def-ghi end", "*** end"),
        ("https://h/p?X-Amz-Signature=1&b=2 end", "https://h/p?*** end"),
        ("'https://me:pass@h:8/p'", "'https://h:8/p'"),
        ("s3://key:secret@bucket/x?y#z", "s3://bucket/x?***"),
        ("https://h/p, and nothing else", "https://h/p, and nothing else"),
        ("hf_hub_download", "hf_hub_download"),
    ],
)
def test_texts_without_secrets(text, said):
    assert scrubbed(text) == said


# The session


def state():
    """Whether Xet is disabled, the proxies, and whether answers are checked."""
    headers = {"etag": '"../../x"'}
    request = client.get_session().build_request("GET", "http://x")
    answer = SimpleNamespace(headers=headers, request=request, is_success=True, extensions={})
    checked = False
    for hook in client.get_session().event_hooks["response"]:
        try:
            hook(answer)
        except HubError:
            checked = True
    return client.constants.HF_HUB_DISABLE_XET, proxies(), checked


def test_the_session_is_as_it_was(hub, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    before = state()
    assert not before[2]
    load()
    hub.faults.append(Fault("status", code=404, times=None))
    refused(NAME)
    assert state() == before
    hub.faults.clear()
    with proxied({"http": "127.0.0.1:9"}):
        refused(NAME, force_download=True, match="cannot be reached")
    assert state() == before
    with guarded():
        assert state()[2]


def test_sessions_in_any_order(monkeypatch):
    """Threads come and go; whoever is left has what it asked for."""
    monkeypatch.setattr(client.constants, "HF_HUB_DISABLE_XET", False)
    before = state()
    first, second, third = proxied({"http": "a:1"}), guarded(), proxied({"http": "b:2"})
    first.__enter__()
    second.__enter__()
    third.__enter__()
    assert state() == (True, {b"b"}, True)
    first.__exit__(None, None, None)
    assert state() == (True, {b"b"}, True)
    third.__exit__(None, None, None)
    assert state() == (False, set(), True)
    second.__exit__(None, None, None)
    assert state() == before


def proxies():
    transports = _http.get_session()._mounts.values()
    pools = [vars(transport)["_pool"] for transport in transports if transport is not None]
    return {pool._proxy_url.host for pool in pools if hasattr(pool, "_proxy_url")}


def test_a_factory_of_the_user_is_kept(hub):
    made = []

    def factory():
        made.append(1)
        return _http.default_client_factory()

    client.set_client_factory(factory)
    try:
        load()
        assert len(made) == 1
        client.close_session()
        client.get_session()
        assert len(made) == 2
    finally:
        client.set_client_factory(_http.default_client_factory)


# The bar


class Told:
    """What tqdm would be told."""

    def __init__(self, total, **_):
        self.total, self.n, self.closed, self.disable = total, 0, False, False
        bars.append(self)

    def update(self, count):
        self.n += count

    def set_postfix_str(self, text, **_):
        self.text = text

    def close(self):
        self.closed = True


bars: list[Told] = []


@pytest.mark.parametrize("fault", ["none", "close", "reset", "corrupt", "ignore_range", "gzip"])
def test_one_bar_counts_each_byte_once(fault, hub, monkeypatch):
    monkeypatch.setattr("flaxmodels.hub.progress.tqdm", Told)
    monkeypatch.setattr(client.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    bars.clear()
    if fault != "none":
        after = {"after": 5000} if fault in ("close", "reset", "corrupt") else {}
        hub.fault(Fault(fault, port="cdn", skip=6, **after))
    assert is_whole(load()[1])
    assert all(bar.closed and bar.n == bar.total for bar in bars)
    assert bars[-1].total == sum(len(files_of(SHARDED)[shard]) for shard in SHARDS)
    assert re.fullmatch(r"([1-4]) of \1 files", bars[-1].text)


def test_what_xet_tells_of_a_file():
    """Its bar counts what is on the disk; what comes over the wire is shown by another."""
    bar = ProgressBar(False, Cancellation())
    counted = []
    bar.add = lambda count: counted.append(count)
    with XetDownloadProgressReporter(
        reconstruction_desc="x: reconstructing file",
        transfer_desc="x: downloading bytes",
        total=100,
        log_level=logging.WARNING,
        name="huggingface_hub.xet_get",
        tqdm_class=bar.report(100),
    ) as progress:
        for done in (0, 40, 100):
            progress.update_progress(
                SimpleNamespace(
                    total_bytes=100,
                    total_bytes_completed=done,
                    total_transfer_bytes_completed=done // 2,
                    total_bytes_completion_rate=1.0,
                    total_transfer_bytes_completion_rate=1.0,
                )
            )
    assert counted == [40, 60]


# Cancelling


def test_cancelling_ends_what_waits_and_what_comes_next(hub):
    cancellation, waiting = Cancellation(), threading.Event()
    ended: list[BaseException] = []

    def call():
        waiting.set()
        raise OSError("busy")

    def run():
        with cancellation.scope(), pytest.raises(CancelledError) as caught:
            attempt("x", call, tries=100)
        ended.append(caught.value)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("flaxmodels.hub.client.pause", lambda seconds, current: current.wait(60))
        thread = threading.Thread(target=run)
        thread.start()
        waiting.wait(10)
        cancellation.cancel()
        thread.join(10)
    assert len(ended) == 1
    with cancellation.scope(), pytest.raises(CancelledError):
        attempt("x", lambda: client.get_session().get(hub.endpoint))


@pytest.mark.parametrize("how", ["error", "ctrl-c", "none"])
def test_xet_is_ended_with_the_rest(how, hub, monkeypatch):
    """Its transfers are threads of its own, which heed nothing else."""
    ended = []
    monkeypatch.setattr("huggingface_hub.utils._xet.abort_xet_session", lambda: ended.append(1))
    if how == "none":
        assert is_whole(load()[1])
        assert not ended
    elif how == "error":
        hub.fault(Fault("status", method="HEAD", path=f"*/{SECOND}", code=403, times=None))
        refused(NAME, SECOND)
        assert ended
    else:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            raise_it = Fault(
                "hook", path=f"*/{LAST}", call=lambda _: signal.raise_signal(signal.SIGINT)
            )
            hub.fault(raise_it)
            with pytest.raises(KeyboardInterrupt):
                load()
        finally:
            signal.signal(signal.SIGINT, before)
        assert ended


def test_the_first_error_is_the_one_that_is_told(hub):
    """Whatever the others say when they are stopped for it."""
    hub.rate = 100_000
    hub.fault(Fault("status", method="HEAD", path=f"*/{SECOND}", code=403, times=None))
    for _ in range(3):
        with pytest.raises(HubError, match=f"{SECOND}: the Hub refuses"):
            load()
