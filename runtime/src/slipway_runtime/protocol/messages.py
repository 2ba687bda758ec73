"""The services that are offered over gRPC, and their messages.

Their classes are made of the compiled definitions, in a pool of descriptors of our own, so that a
program may load other definitions of the same protocols beside these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

INFERENCE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"
REFLECTIONS: Final = (
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)

_COMPILED: Final = Path(__file__).with_name("services.binpb")


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(_COMPILED.read_bytes())
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL: Final[Any] = _pool()


def message(name: str, package: str = "inference") -> Any:
    """Return the class of a message."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{package}.{name}"))


def methods(service: str) -> list[Any]:
    """Return the descriptors of a service's methods."""
    return list(POOL.FindServiceByName(service).methods)


ModelInferResponse: Final[Any] = message("ModelInferResponse")
