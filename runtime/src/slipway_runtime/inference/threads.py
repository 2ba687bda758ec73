"""How many threads: from the cgroup's CPU quota, not from the host's cores.

ONNX Runtime counts the host's cores; with more threads than quota the kernel stops all of them
for the rest of each period, which costs far more than the threads gain.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def available_cpus(root: Path = CGROUP_ROOT, own: Path = OWN_CGROUPS) -> int:
    """Return how many threads may run at once: at least 1.

    That is the lesser of the CPUs this process may be scheduled on and the smallest quota of its
    cgroup and the cgroup's ancestors, rounded down (cgroup v1 and v2; no quota = no limit).
    """
    cpus = len(os.sched_getaffinity(0))
    quota = cpu_quota(root, own)
    return max(1, cpus if quota is None else min(cpus, int(quota)))


def cpu_quota(root: Path = CGROUP_ROOT, own: Path = OWN_CGROUPS) -> float | None:
    """Return the smallest CPU quota that applies to this process in CPUs, or None."""
    quotas: list[float] = []
    for directory in _own_directories(root, own):
        for read in (_quota_v2, _quota_v1):
            quota = read(directory)
            if quota is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _own_directories(root: Path, own: Path) -> Iterator[Path]:
    """Yield the directories of this process's cgroup and its ancestors, as far as they are seen.

    Inside a container the mount often shows the container's own cgroup as its root, while
    ``/proc/self/cgroup`` still has the host's path: then only the root exists.
    """
    try:
        lines = own.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    mounts: list[tuple[Path, str]] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            mounts.append((root, path))
        elif "cpu" in controllers.split(","):
            mounts += [(root / controllers, path), (root / "cpu", path)]
    mounts += [(root, "/"), (root / "cpu", "/"), (root / "cpu,cpuacct", "/")]
    seen: set[Path] = set()
    for mount, path in mounts:
        relative = PurePosixPath(path.lstrip("/"))
        for ancestor in (relative, *relative.parents):
            directory = mount / ancestor
            if ".." not in ancestor.parts and directory not in seen:
                seen.add(directory)
                yield directory


def _quota_v2(directory: Path) -> float | None:
    fields = _read(directory / "cpu.max").split()
    if not fields or fields[0] == "max":
        return None
    return _ratio(fields[0], fields[1] if len(fields) > 1 else "100000")


def _quota_v1(directory: Path) -> float | None:
    quota = _read(directory / "cpu.cfs_quota_us").strip()
    period = _read(directory / "cpu.cfs_period_us").strip()
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    try:
        microseconds, of = int(quota), int(period)
    except ValueError:
        return None
    return microseconds / of if microseconds > 0 and of > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
