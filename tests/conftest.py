"""Where the tests run: eight CPU devices, no network, one thread a process.

Programs run once or twice, and what optimises them takes longer than they do: it is left out, but
for tests marked `optimized`, and what took long to compile is kept beside the interpreter's
packages for the next run. FLAXMODELS_TEST_CACHE names another folder; empty, nothing is kept.

FLAXMODELS_TEST_PLATFORM=gpu runs on a GPU instead, and adds the tests marked `gpu`.
"""

import gc
import importlib.metadata
import inspect
import os
import socket
import sys

import _cpu_times
import pytest
from _lowering import share_contexts
from loopback.client import hub  # noqa: F401  a fixture for all tests

# Collecting makes a million objects that stay; the collector of garbage took a fifth of its time.
gc.disable()

if "jax" in sys.modules:
    raise pytest.UsageError("jax was imported before tests/conftest.py could configure it")

PLATFORM = os.environ.get("FLAXMODELS_TEST_PLATFORM", "cpu")
if PLATFORM not in ("cpu", "gpu"):
    raise pytest.UsageError(f"FLAXMODELS_TEST_PLATFORM is {PLATFORM!r}; it may be cpu or gpu")

JAXLIB = importlib.metadata.version("jaxlib")

# All through the environment, so that a test's subprocesses run alike.
os.environ["JAX_PLATFORMS"] = "cuda,cpu" if PLATFORM == "gpu" else "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_cpu_multi_thread_eigen=false",
        # Compiling the programs of some tests took 7.0 s of CPU time; 2.7 s without the emitters
        # of fused loops (that flag is gone from later XLA); 1.7 s with one module of LLVM's for
        # each program and not 32.
        "--xla_cpu_parallel_codegen_split_count=1",
        *(["--xla_cpu_use_fusion_emitters=false"] if JAXLIB.startswith("0.10.") else []),
    ]
).strip()
os.environ["NPROC"] = (
    "32"  # of XLA's threads: with one a device, reductions may wait for each other
)
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
# Where in Python an operation stands, which no test asks for: a tenth of tracing and lowering.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
_CACHE = os.environ.get("FLAXMODELS_TEST_CACHE", os.path.join(sys.prefix, "jax-cache"))
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "true" if _CACHE else "false"
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# Nothing here is encrypted, and the system's certificates take each client of the Hub 22 ms.
os.environ["SSL_CERT_DIR"] = os.path.dirname(__file__)
os.environ.pop("SSL_CERT_FILE", None)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"


class NetworkUsed(BaseException):
    """A test left this machine. No `except Exception` that falls back to offline can hide it."""


_LOOPBACK = ("localhost", "::1", "", None)


def _refuse_remote(host: object, what: str) -> None:
    host = host.decode() if isinstance(host, bytes) else host
    if host not in _LOOPBACK and not str(host).startswith("127."):
        raise NetworkUsed(f"tests run without a network, and this one {what} {host}")


def _guarded(name: str):
    method = getattr(socket.socket, name)

    def call(self, *args):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_remote(args[-1][0], "connects to")
        return method(self, *args)

    return call


def _guarded_lookup(host, *args, _lookup=socket.getaddrinfo, **kwargs):
    _refuse_remote(host, "looks up")
    return _lookup(host, *args, **kwargs)


for _name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, _name, _guarded(_name))
socket.getaddrinfo = _guarded_lookup


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests marked soak too")
    parser.addoption("--cpu", type=int, default=0, help="print the N that take most CPU time")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cpu"):  # in xdist's workers too, which are given the options
        config.pluginmanager.register(_cpu_times)


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether `--all` was given: a test that tries many of a kind tries all of them."""
    return request.config.getoption("--all")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Optimises what a test marked `optimized` compiles, and no other."""
    import jax

    plain = item.get_closest_marker("optimized") is None
    if jax.config.read("jax_disable_most_optimizations") != plain:
        jax.config.update("jax_disable_most_optimizations", plain)
        jax.clear_caches()


def pytest_collection_finish() -> None:
    """Makes what tests do thousands of times cheaper: of tracing, a fifth of the CPU time was the
    collector of garbage, and of lowering small programs most was making an MLIR context."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
    share_contexts()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Lets go of compiled programs between two files where they have become many."""
    if nextitem is not None and nextitem.path != item.path and _resident() > _MOST_RESIDENT:
        import jax

        jax.clear_caches()
        gc.collect()


_MOST_RESIDENT = 4 << 30  # bytes of a process; without a limit, two grow to 8 GB together


def _resident() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return 0


def _left_out(config: pytest.Config) -> set[str]:
    """Marks of tests that do not run."""
    return {"gpu"} - {PLATFORM} | (set() if config.getoption("--all") else {"soak"})


def _is_named(config: pytest.Config) -> bool:
    """Whether a test is asked for by its name, and is to be told of where it does not run."""
    return any("::" in argument for argument in config.args)


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> list | None:
    """Makes no item of a function that does not run: there are 6000, of 0.2 ms."""
    if not name.startswith("test_") or not inspect.isfunction(obj) or _is_named(collector.config):
        return None
    marks = {mark.name for mark in getattr(obj, "pytestmark", ())}
    marks.update(mark.name for mark in collector.iter_markers())
    return None if marks.isdisjoint(_left_out(collector.config)) else []


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Nor of parameters that do not; if none does, of the first, which is then deselected."""
    if not _is_named(metafunc.config):
        out = _left_out(metafunc.config)
        made = metafunc._calls
        made[:] = [x for x in made if out.isdisjoint(m.name for m in x.marks)] or made[:1]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if PLATFORM == "gpu":
        import jax

        if jax.default_backend() != "gpu":
            raise pytest.UsageError("FLAXMODELS_TEST_PLATFORM is gpu, and JAX finds none")
    left_out = _left_out(config)
    kept: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        kept[not any(map(item.get_closest_marker, left_out))].append(item)
    config.hook.pytest_deselected(items=kept[False])
    items[:] = _by_family(kept[True])


def _by_family(items: list[pytest.Item]) -> list[pytest.Item]:
    """Puts the tests of a file that are of one family beside each other, so that they mostly run in
    one process, which traces and loads a model once; and those that are compiled with
    optimisations behind the others, since a change lets go of all that was compiled."""
    files: dict[object, dict[str | None, list[pytest.Item]]] = {}
    for item in items:
        given = getattr(item, "callspec", None)
        family = given and given.params.get("family")
        family = family if isinstance(family, str) else None
        files.setdefault(item.path, {}).setdefault(family, []).append(item)
    ordered: list[pytest.Item] = []
    for families in files.values():
        file = [item for same in families.values() for item in same]
        ordered += sorted(file, key=lambda item: item.get_closest_marker("optimized") is not None)
    return ordered
