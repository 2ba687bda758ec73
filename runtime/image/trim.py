"""Removes from the virtual environment of the image what serving a model never uses.

Run by the Python of that environment, before its bytecode is compiled.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))

# Tools and training helpers of onnxruntime, test suites, sources for building extensions.
UNUSED = (
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "numpy/f2py",
    "numpy/distutils",
    "numpy/doc",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/random/lib",
    "numpy/random/_examples",
    "boto3/examples",
    "botocore/vendored/requests/packages/urllib3/contrib",
)
EVERYWHERE = ("tests", "_pyinstaller")
SUFFIXES = (".pyi", ".pyx", ".pxd", ".c", ".h", ".a", ".whl")
# Of the services that botocore describes (28 MB): the storage, and what IRSA asks for credentials.
SERVICES = {"s3", "sts"}
# Wheels that ship debug symbols.
UNSTRIPPED = ("uvloop", "httptools")


def main() -> None:
    """Trim, and say how much it was."""
    before = size()
    for name in UNUSED:
        shutil.rmtree(SITE / name, ignore_errors=True)
    for folder in [path for path in SITE.rglob("*") if path.is_dir()]:
        if folder.name in EVERYWHERE:
            shutil.rmtree(folder, ignore_errors=True)
    for data in (SITE / "botocore" / "data", SITE / "boto3" / "data"):
        for folder in [path for path in data.iterdir() if path.is_dir()]:
            if folder.name not in SERVICES:
                shutil.rmtree(folder)
    for path in SITE.rglob("*"):
        if path.is_file() and path.suffix in SUFFIXES:
            path.unlink()
    for package in UNSTRIPPED:
        for library in (SITE / package).rglob("*.so"):
            subprocess.run(["strip", "--strip-unneeded", str(library)], check=True)
    print(f"trimmed {SITE} from {before} to {size()} bytes", file=sys.stderr)


def size() -> int:
    """Return the size of all files in bytes."""
    return sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
