"""The mounts that a node leaves below its folder when it is not shut down in good order."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_MNT_POINT = 4
_OCTAL = re.compile(r"\\([0-7]{3})")


def below(folder: Path, mountinfo: str) -> list[Path]:
    """Return the mount points below a folder, innermost first.

    `mountinfo` is a mount table as /proc/self/mountinfo prints it.
    """
    points = [
        Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), line.split()[_MNT_POINT]))
        for line in mountinfo.splitlines()
    ]
    ours = [point for point in points if point.is_relative_to(folder)]
    return sorted(ours, key=lambda point: len(point.parts), reverse=True)


def unmount_below(folder: Path) -> None:
    """Unmount all that is mounted below a folder."""
    for point in below(folder, Path("/proc/self/mountinfo").read_text()):
        # Detach at once: a process that is just ending may still hold the mount.
        subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)
