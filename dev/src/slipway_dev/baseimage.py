"""The Debian image that ours are built on, made from the package mirror where no registry is.

It stands in for the official one of the same name, and is slimmed in the same way: no
documentation, manual pages or translations.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from slipway_dev import paths
from slipway_dev.console import step
from slipway_dev.errors import DevError

SUITE = "trixie"
IMAGE = f"debian:{SUITE}-slim"
SETTINGS = ('CMD ["bash"]',)

_UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale")
_EMPTIED = ("var/lib/apt/lists", "var/cache/apt", "var/log", "tmp")
_DPKG = "\n".join(
    [
        *(f"path-exclude /{folder}/*" for folder in _UNWANTED),
        "path-include /usr/share/doc/*/copyright",
    ]
)
_APT = """\
APT::Install-Recommends "false";
Acquire::Languages "none";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
"""


def archive(mirror: str) -> Path:
    """Return the tar of the image's root file system, made from `mirror` if not in the cache."""
    target = paths.cache() / "images" / f"{SUITE}.tar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            step(f"Make {IMAGE} from {mirror}") as detail,
            tempfile.TemporaryDirectory(dir=target.parent) as scratch,
        ):
            root, new = Path(scratch, "root"), Path(scratch, "root.tar")
            detail("debootstrap")
            _run("debootstrap", "--variant=minbase", SUITE, str(root), mirror)
            detail("slimming")
            slim(root)
            _run("tar", "--create", f"--file={new}", f"--directory={root}", ".")
            new.rename(target)
    return target


def slim(root: Path) -> None:
    """Remove from a root file system what an image has no use for, now and at each apt-get."""
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(_DPKG)
    (root / "etc/apt/apt.conf.d/slim").write_text(_APT)
    for folder in _UNWANTED:
        for path in (root / folder).rglob("*"):
            if not path.is_dir() and path.name != "copyright":
                path.unlink()
    for folder in _EMPTIED:
        shutil.rmtree(root / folder)
        (root / folder).mkdir()
    (root / "tmp").chmod(0o1777)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = f"{done.stdout}{done.stderr}".strip().splitlines()[-10:]
        raise DevError(
            f"{command[0]} failed: " + "\n".join(output),
            "The Debian mirror must be reachable; --mirror names another.",
        )
