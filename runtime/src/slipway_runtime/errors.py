# ruff: noqa: N818 - failures are named as the contract names their reasons
"""Everything that can go wrong, in one hierarchy.

    SlipwayError
    ├── Failure                   ends the process: a reason, an exit code, a termination message
    │   ├── InternalError         1   a defect of the runtime
    │   ├── InvalidArguments      2   a flag or variable is missing or malformed
    │   ├── DigestMismatch       20   the bytes are not those that were pinned
    │   ├── InvalidModel         21   not ONNX, or ONNX Runtime refuses the graph
    │   ├── UnsupportedOpset     22   an opset or IR version this runtime does not support
    │   ├── GoldenMismatch       23   golden outputs differ
    │   ├── TooLarge             24   larger than the limit or than the cache volume
    │   ├── WarmupFailed         25   the session loads but a first run fails
    │   ├── ArtifactNotFound     30   the source says that there is no such object
    │   ├── AccessDenied         31   the source refuses these credentials
    │   ├── SourceUnavailable    32   no answer, or server errors, after bounded retries
    │   ├── ProviderUnavailable  40   a required execution provider is not in the session
    │   └── OutOfMemory          41   the model does not fit, seen by the process itself
    └── RequestError              answers one request; the server maps each class to a status once
        ├── BadRequest                the body does not fit the model's inputs
        ├── ProtocolViolation         a message is not framed as its protocol requires
        ├── Unauthorized              no token, or one that is not known
        ├── InsecureConnection        in the clear, where TLS is asked for
        ├── UnknownResource           no such model, version or route
        ├── MethodNotAllowed          the route exists, for another method
        ├── NotSupported              a part of a protocol that this server leaves out on purpose
        ├── BodyTooLarge              above the body limit
        ├── UnsupportedMediaType      a content type or encoding that is not understood
        ├── UnrepresentableOutput     the outputs have no form in the answer's encoding
        ├── QueueFull                 too many requests wait already
        ├── NotReady                  loading or draining
        ├── DeadlineExceeded          the client, or a setting, allowed no more time
        └── InferenceFailed           ONNX Runtime failed on a request that was well formed

Reasons and exit codes are the contract with the operator (docs/pod-contract.md).
"""

from collections.abc import Mapping
from typing import ClassVar


class SlipwayError(Exception):
    """The base of all errors that this package raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Failure(SlipwayError):
    """An error that ends the process.

    ``details`` are further members of the termination message, such as ``expected`` and
    ``actual`` of a DigestMismatch. Neither they nor the message may hold a credential.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: str | int) -> None:
        super().__init__(message)
        self.details = details

    @property
    def reason(self) -> str:
        """The name by which the operator knows this failure."""
        return type(self).__name__


class InternalError(Failure):
    """A defect of the runtime."""

    exit_code = 1


class InvalidArguments(Failure):
    """A flag or variable is missing or malformed."""

    exit_code = 2


class DigestMismatch(Failure):
    """The bytes are not those that were pinned."""

    exit_code = 20


class InvalidModel(Failure):
    """Not ONNX, or ONNX Runtime refuses the graph."""

    exit_code = 21


class UnsupportedOpset(Failure):
    """The graph asks for an opset or IR version that this runtime does not support."""

    exit_code = 22


class GoldenMismatch(Failure):
    """Golden outputs differ."""

    exit_code = 23


class TooLarge(Failure):
    """The artifact is larger than the limit or than the cache volume."""

    exit_code = 24


class WarmupFailed(Failure):
    """The session loads but a first run fails."""

    exit_code = 25


class ArtifactNotFound(Failure):
    """The source says that there is no such object."""

    exit_code = 30


class AccessDenied(Failure):
    """The source refuses these credentials, or hides that the object does not exist."""

    exit_code = 31


class SourceUnavailable(Failure):
    """The source does not answer, or answers with server errors, after bounded retries."""

    exit_code = 32


class ProviderUnavailable(Failure):
    """A required execution provider is not in the session; ``provider`` is the one at fault."""

    exit_code = 40

    def __init__(self, message: str, *, provider: str = "", **details: str | int) -> None:
        super().__init__(message, **details)
        self.provider = provider


class OutOfMemory(Failure):
    """The model does not fit into the memory limit, seen by the process itself."""

    exit_code = 41


def failure_of(document: Mapping[str, str | int]) -> Failure:
    """Return the failure of a termination message; an unknown reason is an InternalError."""
    details = dict(document)
    reason, message = details.pop("reason", ""), str(details.pop("message", ""))
    kinds = {kind.__name__: kind for kind in Failure.__subclasses__()}
    return kinds.get(str(reason), InternalError)(message, **details)


class RequestError(SlipwayError):
    """An error that answers one request and leaves the server as it was.

    ``retry_after`` is after how many seconds the same request may succeed; None if it may not.
    """

    retry_after: ClassVar[int | None] = None


class BadRequest(RequestError):
    """The body does not fit the model's inputs; the message says which input and why."""


class ProtocolViolation(RequestError):
    """A message is not framed as its protocol requires; no client library sends such a message."""


class Unauthorized(RequestError):
    """The request brings no token, or one that is not known."""


class InsecureConnection(RequestError):
    """The request came in the clear, and this server takes it over TLS alone."""


class UnknownResource(RequestError):
    """There is no such model, version or route."""


class MethodNotAllowed(RequestError):
    """The route exists, for another method."""

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class NotSupported(RequestError):
    """A part of a protocol that this server leaves out on purpose."""


class BodyTooLarge(RequestError):
    """The body is above the limit."""


class UnsupportedMediaType(RequestError):
    """The content type or content encoding is not understood."""


class UnrepresentableOutput(RequestError):
    """The outputs have no form in the encoding of the answer."""


class QueueFull(RequestError):
    """Too many requests wait already."""

    retry_after = 1


class NotReady(RequestError):
    """The server is loading or draining."""

    retry_after = 2


class DeadlineExceeded(RequestError):
    """The client, or a setting, allowed no more time."""


class InferenceFailed(RequestError):
    """ONNX Runtime failed on a request that was well formed."""


class AbandonedError(Exception):
    """The client has gone; there is nobody to answer. Ends what is being done for it."""
