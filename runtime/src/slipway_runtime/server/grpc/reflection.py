"""Reflection: clients that have no definition of the services ask for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf import descriptor_pb2

from slipway_runtime.protocol.messages import HEALTH, INFERENCE, POOL, REFLECTIONS, message
from slipway_runtime.server.grpc.call import Method, StreamCall
from slipway_runtime.server.grpc.status import Code

SERVICES: Final = (INFERENCE, HEALTH, *REFLECTIONS)


def methods() -> list[Method]:
    """Return the services by both of their names."""
    found: list[Method] = []
    for service in REFLECTIONS:
        package = service.rpartition(".")[0]

        async def reflect(call: StreamCall, package: str = package) -> None:
            response = message("ServerReflectionResponse", package)
            async for request in call.messages():
                await call.send(response(original_request=request, **_answer(request, package)))

        request = message("ServerReflectionRequest", package)
        found.append(Method(f"/{service}/ServerReflectionInfo", reflect, request, streams=True))
    return found


def _answer(request: Any, package: str) -> dict[str, Any]:
    kind = request.WhichOneof("message_request")
    try:
        match kind:
            case "list_services":
                entry = message("ServiceResponse", package)
                services = message("ListServiceResponse", package)(
                    service=[entry(name=name) for name in SERVICES]
                )
                return {"list_services_response": services}
            case "file_by_filename":
                file = POOL.FindFileByName(request.file_by_filename)
            case "file_containing_symbol":
                file = _file_with(request.file_containing_symbol)
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                POOL.FindMessageTypeByName(name)
                numbers = message("ExtensionNumberResponse", package)(base_type_name=name)
                return {"all_extension_numbers_response": numbers}
            case "file_containing_extension":
                raise KeyError(kind)
            case _:
                return _error(package, Code.INVALID_ARGUMENT, "this asks for nothing")
    except KeyError:
        return _error(package, Code.NOT_FOUND, "no such name here")
    files = message("FileDescriptorResponse", package)(file_descriptor_proto=_with_imports([file]))
    return {"file_descriptor_response": files}


def _file_with(symbol: str) -> Any:
    """Return the file of a service, a message, or a method.

    Raises:
        KeyError: there is none.
    """
    try:
        return POOL.FindFileContainingSymbol(symbol)
    except KeyError:
        return POOL.FindFileContainingSymbol(symbol.rpartition(".")[0])


def _with_imports(files: Iterable[Any]) -> list[bytes]:
    """Return the descriptors of files, each before what it imports."""
    found: dict[str, bytes] = {}
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file.name not in found:
            proto = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(proto)
            found[file.name] = proto.SerializeToString()
            waiting += file.dependencies
    return list(found.values())


def _error(package: str, code: Code, text: str) -> dict[str, Any]:
    made = message("ErrorResponse", package)(error_code=int(code), error_message=text)
    return {"error_response": made}
