"""To be imported before jax: a run on a CPU gets 8 devices, unless it was told how many."""

import os

if os.environ.get("JAX_PLATFORMS", "cpu") in ("", "cpu"):
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()
    # XLA makes so many threads, by default one a device. Each device takes one where all of them
    # must meet; if something else has taken one, they wait for each other until XLA gives up.
    os.environ.setdefault("NPROC", "32")
