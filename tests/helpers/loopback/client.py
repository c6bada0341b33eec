"""Points huggingface_hub, in this process or in a child, at a loopback Hub and nowhere else."""

import importlib
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopback.hub import LoopbackHub

# Modules with state or constants of their own. They are imported before anything is changed, so
# that none is imported within a test and keeps what was meant for that test.
MODULES = ("_commit_api", "_snapshot_download", "file_download", "hf_api", "hf_file_system", "lfs")
UTILS = ("_cache_assets", "_cache_manager", "_detect_agent", "_git_credential", "_http", "tqdm")

TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A loopback Hub, the only one that huggingface_hub knows of during this test.

    The cache is at `tmp_path / "hf" / "hub"`, no token is set (`monkeypatch.setenv("HF_TOKEN",
    "hf_write")` sets one), time-outs are 2 s, and the client's sleeps between its tries take no
    time: they are in `hub.waits`.
    """
    with LoopbackHub() as loopback, warnings.catch_warnings():
        # How the client uploads a large file is deprecated by its transport.
        warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
        utils = _point_client(loopback, tmp_path / "hf", monkeypatch)
        utils.close_session()
        yield loopback
        utils.close_session()


def hub_environment(hub: LoopbackHub, tmp_path: Path) -> dict[str, str]:
    """The whole environment of a child process that knows of this Hub only.

    What is meant for another host goes to the Hub as to a proxy, which refuses and records it.
    """
    gone = {*TOKENS, "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"}
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return kept | {
        **{name: hub.endpoint for proxy in proxies for name in (proxy, proxy.lower())},
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "2",
        "HF_HUB_ETAG_TIMEOUT": "2",
    }


def _point_client(hub: LoopbackHub, home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Changes what the client reads, for this test -> its `utils`."""
    names = [*MODULES, *(f"utils.{name}" for name in UTILS)]
    modules = {name: importlib.import_module(f"huggingface_hub.{name}") for name in names}
    _change_everywhere(_constants(hub, home), monkeypatch)
    http, api = modules["utils._http"], modules["hf_api"].api
    origin = http._url_origin(hub.endpoint)
    monkeypatch.setattr(http, "_HUB_ORIGINS", http._HUB_ORIGINS | {origin})
    monkeypatch.setattr(api, "endpoint", hub.endpoint)
    monkeypatch.setattr(api, "_whoami_cache", {})
    monkeypatch.setattr(modules["hf_file_system"].hffs, "endpoint", hub.endpoint)
    monkeypatch.setattr(modules["hf_file_system"].hffs, "_api", api)
    monkeypatch.setattr(modules["file_download"], "_ETAG_RETRY_TIMEOUT", 2)
    for module in (http, modules["file_download"]):
        monkeypatch.setattr(module, "time", _Clock(hub.waits))
    for name in TOKENS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return importlib.import_module("huggingface_hub.utils")


def _constants(hub: LoopbackHub, home: Path) -> dict[str, Any]:
    constants = sys.modules["huggingface_hub.constants"]
    path = {name: str(home / name.lower()) for name in ("token", "stored_tokens", "assets", "xet")}
    return {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_URL_HOSTS": constants.HF_URL_HOSTS | {"127.0.0.1"},
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": path["assets"],
        "HUGGINGFACE_ASSETS_CACHE": path["assets"],
        "HF_XET_CACHE": path["xet"],
        "HF_TOKEN_PATH": path["token"],
        "HF_STORED_TOKENS_PATH": path["stored_tokens"],
        "AGENT_HARNESSES_PATH": str(home / ".agent_harnesses.json"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
        "HF_HUB_ETAG_TIMEOUT": 2,
        "HF_HUB_DOWNLOAD_TIMEOUT": 2,
    }


def _change_everywhere(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the module of constants, and in those that copied them when they were imported."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("huggingface_hub"):
            for name in values.keys() & vars(module).keys():
                monkeypatch.setattr(module, name, values[name])


class _Clock:
    """The module `time`, but for sleeping."""

    def __init__(self, waits: list[float]):
        self._waits = waits

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        self._waits.append(seconds)
