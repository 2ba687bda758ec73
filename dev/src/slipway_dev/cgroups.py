"""The control group that holds every process of the node's pods, and none else.

Because it is ours alone, what is in it can be ended without asking what it is: that is how pods go
even when containerd or its shims were killed.
"""

from __future__ import annotations

from pathlib import Path

from slipway_dev.process import identify, kill
from slipway_dev.wait import wait_until

ROOT = "slipway-dev"
# The group competes as one with each process outside, by which a busy machine starves its pods.
_WEIGHTS = {"cpu.shares": "8192", "cpu.weight": "800"}
_UNIFIED = Path("/sys/fs/cgroup")  # where cgroup v2 is mounted when there is no v1


def hierarchies(mounts: str) -> list[Path]:
    """Return the control group hierarchies in a mount table as /proc/self/mounts prints it."""
    rows = [line.split() for line in mounts.splitlines()]
    return [Path(row[1]) for row in rows if row[2] in {"cgroup", "cgroup2"}]


def create() -> None:
    """Make the group in every hierarchy: the kubelet refuses a root that is missing in one."""
    for folder in _folders():
        folder.mkdir(exist_ok=True)
        if folder.parent == _UNIFIED:
            # A group has the controllers that its parent hands down.
            offered = (_UNIFIED / "cgroup.controllers").read_text().split()
            handed_down = " ".join(f"+{controller}" for controller in offered)
            (_UNIFIED / "cgroup.subtree_control").write_text(handed_down)
        for name, weight in _WEIGHTS.items():
            if (folder / name).exists():
                (folder / name).write_text(weight)


def remove() -> None:
    """Kill what runs in the group, and remove it with all its subgroups."""
    for folder in _folders():
        if folder.exists():
            wait_until(f"{folder} is empty", lambda folder=folder: _remove_tree(folder), 30)


def _folders() -> list[Path]:
    found = hierarchies(Path("/proc/self/mounts").read_text())
    return [folder / ROOT for folder in found]


def _remove_tree(folder: Path) -> str | None:
    inner = sorted(
        (path for path in folder.rglob("*") if path.is_dir()),
        key=lambda path: len(path.parts),
        reverse=True,
    )
    for group in [*inner, folder]:
        for pid in (group / "cgroup.procs").read_text().split():
            identity = identify(int(pid))
            if identity is not None:
                kill(identity)
        try:
            group.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"{group}: {error.strerror}"
    return None
