"""How many threads a process may use: the cores that it really has, divided among those who share them.

`os.cpu_count` is the machine's, whatever a container was given of it. What a process really has is the smallest of
its *core pools*: the machine; its affinity mask, if that leaves cores out; and each control group above it that has
a quota. Workers that share a pool divide it, so it does not matter how they came to share: three containers without
limits divide the machine, three with a quota of their own keep it whole, and three services below one limited
systemd slice divide the slice. Workers pinned to different cores share only the machine, and lose nothing by that.

A pool is named the same by every process that draws from it. The machine is known by the kernel's boot id, because
containers on it have different host names.

The division is made among processes of one role (`workers/threads.py`): bulk workers give way to query workers by
their priority, so those two need not divide.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROC = Path("/proc/self")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class CorePool:
    """Cores that several processes may draw from.

    Attributes:
        name: The same for all of them, and no other pool's.
        cores: How many; a quota may be a fraction.
    """

    name: str
    cores: float


def available_cores() -> int:
    """The cores that this process has if nobody shares them, at least 1."""
    return fair_share(core_pools())


def fair_share(pools: Iterable[CorePool], others: Iterable[Collection[str]] = (), processes: int = 1) -> int:
    """The cores that one process gets where all get the same.

    Rounded down: a group that uses up its quota early in one of the kernel's periods stands still until the next, with
    all its threads, and what is left over serves those besides the network: they decode, and renew leases.

    Args:
        pools: The pools of this process.
        others: For each other process, the names of its pools.
        processes: How many processes surely share all its pools, this one included, even if `others` does not show
            them yet.

    Returns:
        At least 1.
    """
    seen = [set(names) for names in others]
    share = min(pool.cores / max(processes, 1 + sum(pool.name in names for names in seen)) for pool in pools)
    return max(1, int(share))


def core_pools(cgroups: Path = CGROUPS, proc: Path = PROC) -> list[CorePool]:
    """The pools that this process draws from, the machine first.

    Args:
        cgroups: Where the control groups are mounted.
        proc: This process's folder in `/proc`.
    """
    machine = machine_id()
    cores = os.cpu_count() or 1
    pools = [CorePool(machine, cores)]
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        mask = os.sched_getaffinity(0)
        if len(mask) < cores:
            pools.append(CorePool(f"{machine}:cores-{','.join(map(str, sorted(mask)))}", len(mask)))
    pools += [CorePool(f"{machine}:quota-{_digest(place)}", quota) for place, quota in _quotas(cgroups, proc)]
    return pools


def machine_id() -> str:
    """Tells machines apart, and is the same in all containers of one."""
    try:
        return _digest(BOOT_ID.read_text(encoding="ascii").strip())
    except OSError:  # not Linux
        return socket.gethostname()


def _quotas(cgroups: Path, proc: Path) -> Iterator[tuple[str, float]]:
    """For each control group above this process that has a quota: what tells it apart on its machine, and the cores."""
    try:
        lines = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    # In a container the path may be just "/", and on a host's network even the host name says nothing.
    context = socket.gethostname()
    with suppress(OSError):
        context += str((proc / "ns" / "cgroup").readlink())
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts, read = (cgroups / "unified", cgroups), _quota_v2
        elif "cpu" in controllers.split(","):
            mounts, read = (cgroups / controllers, cgroups / "cpu"), _quota_v1
        else:
            continue
        mount = mounts[0] if mounts[0].is_dir() else mounts[1]
        for place, folder in _levels(mount, path):
            with suppress(OSError, ValueError):  # the root has no such file
                if quota := read(folder):
                    yield f"{context}:{place}", quota


def _levels(mount: Path, path: str) -> Iterator[tuple[str, Path]]:
    """The group of that path and all above it."""
    parts = PurePosixPath(path).parts[1:]
    if ".." in parts or not mount.joinpath(*parts).is_dir():
        # A container that sees the machine's names, but of the groups only its own, as the root of the mount.
        yield path, mount
        return
    for depth in range(len(parts) + 1):
        yield "/".join(parts[:depth]), mount.joinpath(*parts[:depth])


def _quota_v2(folder: Path) -> float | None:
    quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
    period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    return quota / period if quota > 0 else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
