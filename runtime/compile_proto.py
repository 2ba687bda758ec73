"""Compiles the services' definitions into the descriptors that the server loads.

    python runtime/compile_proto.py            write
    python runtime/compile_proto.py --check    write nothing; exit 1 if the file is stale

Descriptors, not Python: message classes are made of them at run time, so that nothing generated
needs to be read, linted, or matched to a version of protobuf.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from grpc_tools import protoc

FOLDER = Path(__file__).parent / "src/slipway_runtime/protocol"
SOURCES = ("inference.proto", "health.proto", "reflection.proto")
# The same service by an older name, which most clients ask for.
OLDER = ("reflection.proto", "reflection_v1alpha.proto", ".reflection.v1;", ".reflection.v1alpha;")
TARGET = FOLDER / "services.binpb"


def compiled() -> bytes:
    """Return the serialised FileDescriptorSet of the sources."""
    newer, older, name, other_name = OLDER
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for source in SOURCES:
            shutil.copy(FOLDER / source, folder)
        (folder / older).write_text((folder / newer).read_text().replace(name, other_name))
        target = folder / "descriptors"
        arguments = [f"--proto_path={folder}", f"--descriptor_set_out={target}", *SOURCES, older]
        if cast("Any", protoc).main(["protoc", *arguments]) != 0:
            sys.exit(1)
        return target.read_bytes()


def main() -> int:
    """Run; the exit code is 1 when the file is stale and was not written."""
    content = compiled()
    stale = not TARGET.exists() or TARGET.read_bytes() != content
    if stale and "--check" in sys.argv:
        print(f"{TARGET.name} is stale; run python runtime/compile_proto.py and commit it")
        return 1
    if stale:
        TARGET.write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
