"""Compiles inference.proto into the descriptors that the server loads.

    python runtime/compile_proto.py            write
    python runtime/compile_proto.py --check    write nothing; exit 1 if the file is stale

Descriptors, not Python: message classes are made of them at run time, so that nothing generated
needs to be read, linted, or matched to a version of protobuf.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from grpc_tools import protoc

SOURCE = Path(__file__).parent / "src/slipway_runtime/protocol/inference.proto"
TARGET = SOURCE.with_suffix(".binpb")


def compiled() -> bytes:
    """Return the serialised FileDescriptorSet of the source."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "descriptors"
        arguments = [f"--proto_path={SOURCE.parent}", f"--descriptor_set_out={target}"]
        if cast("Any", protoc).main(["protoc", *arguments, SOURCE.name]) != 0:
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
