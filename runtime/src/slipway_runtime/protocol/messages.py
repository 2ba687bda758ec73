"""The messages of the Open Inference Protocol's gRPC service.

Their classes are made of the compiled inference.proto, in a pool of descriptors of our own, so that
a program may load another definition of the same protocol beside this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE: Final = "inference.GRPCInferenceService"

_PACKAGE: Final = "inference."
_COMPILED: Final = Path(__file__).with_name("inference.binpb")


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(_COMPILED.read_bytes())
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL: Final[Any] = _pool()


def message(name: str) -> Any:
    """Return the class of a message by its name in the package."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(_PACKAGE + name))


def methods() -> list[Any]:
    """Return the descriptors of the service's methods."""
    return list(POOL.FindServiceByName(SERVICE).methods)


ModelInferResponse: Final[Any] = message("ModelInferResponse")
