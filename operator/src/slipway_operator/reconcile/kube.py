"""A thin asynchronous client of the API server that speaks plain dictionaries.

It relies on ``kubernetes.aio`` for configuration, credentials, TLS and connections; the typed
models are not used, since server-side apply must send only the intended fields.
"""

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.names import FIELD_MANAGER
from slipway_operator.reconcile.clock import ServerClock
from slipway_operator.reconcile.kinds import EVENT, POD, Kind

_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)
_WATCH_SECONDS = 300
# Longer than the server keeps a watch open: a connection that died silently ends too.
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=_WATCH_SECONDS + 30, sock_connect=5)
_CONNECTIONS = 64
PAGE = 50  # an object takes some ten times its JSON's size until it is in the store
_EVENTS = 100
_JSON = "application/json"
_ONLY_METADATA = f"{_JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: HTTP status code.
        reason: the reason of the Status object, such as AlreadyExists.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class TransportError(Exception):
    """The API server could not be reached, or did not answer in time."""


class NotLeaderError(Exception):
    """A write was requested from a process that does not hold the Lease."""


async def load_configuration() -> Configuration:
    """The API server's address and our credentials: the ServiceAccount's, or the kubeconfig's.

    Raises:
        kubernetes.aio.config.ConfigException: neither exists.
    """
    configuration = Configuration()
    # The client has no usable types: what it returns is typed here, once.
    untyped: Any = config
    if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        untyped.load_incluster_config(client_configuration=configuration)
    else:
        await untyped.load_kube_config(client_configuration=configuration)
    # Python 3.13 rejects the CA certificates of many clusters, which lack extensions that were not
    # required when they were made. The chain and the host name are verified all the same.
    configuration.disable_strict_ssl_verification = True
    return configuration


def connect(configuration: Configuration, clock: ServerClock | None = None) -> "KubeClient":
    """A client with connections of its own; ``clock`` hears the Date of every answer."""
    return KubeClient(Transport(ApiClient(configuration), clock))


def canonical(body: Json) -> bytes:
    """JSON exactly as Go writes it: compact, keys sorted, UTF-8, three characters escaped.

    The API server compares the raw bytes of a ControllerRevision's data to keep it immutable, and
    writes them anew on every patch: only this form comes out of that unchanged.
    """
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_ESCAPED_BY_GO).encode()


_ESCAPED_BY_GO = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


class _GuardedBody(aiohttp.BytesPayload):
    """A body that asks at the last moment whether it may be sent.

    A request may wait for a connection, and the process be stopped meanwhile. The headers leave
    together with the body, so nothing of a request that is held back is ever seen.
    """

    def __init__(self, body: bytes, may_write: Callable[[], bool]) -> None:
        super().__init__(body)
        self._may_write = may_write

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        if not self._may_write():
            raise NotLeaderError
        await super().write_with_length(writer, content_length)


class Transport:
    """One session: addresses, credentials and TLS by ``kubernetes.aio``, bodies by us."""

    def __init__(self, api: Any, clock: ServerClock | None) -> None:
        """``api`` is an ApiClient of ``kubernetes.aio``."""
        self._api = api
        self._clock = clock
        self._proxy: str | None = api.configuration.proxy
        connector = aiohttp.TCPConnector(ssl=api.rest_client.ssl_context, limit=_CONNECTIONS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)

    async def send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None,
        may_write: Callable[[], bool],
    ) -> tuple[int, bytes]:
        """Send one request; return the status code and the body of the answer.

        Raises:
            NotLeaderError: the body was held back.
            TransportError: there is no answer.
        """
        url: str
        _, url, headers, _, _ = await self._api.param_serialize(
            method, path, header_params=headers, auth_settings=["BearerToken"]
        )
        sent = None if body is None else _GuardedBody(body, may_write)
        try:
            async with self._session.request(
                method, url, headers=headers, data=sent, proxy=self._proxy
            ) as response:
                if self._clock is not None:
                    self._clock.heard(response.headers.get("Date"))
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error.__cause__, NotLeaderError):
                raise NotLeaderError from error
            raise TransportError(f"{method} {path}: {error or type(error).__name__}") from error

    async def lines(self, path: str, headers: dict[str, str]) -> AsyncGenerator[bytes]:
        """The lines of a long answer, as they come.

        Raises:
            ApiError: the request is refused.
            TransportError: it cannot be made. A connection that breaks later ends the lines.
        """
        method, url, headers, _, _ = await self._api.param_serialize(
            "GET", path, header_params=headers, auth_settings=["BearerToken"]
        )
        try:
            async with self._session.request(
                method, url, headers=headers, proxy=self._proxy, timeout=_WATCH_TIMEOUT
            ) as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise _error(response.status, await response.read())
                buffer = b""
                try:
                    async for chunk in response.content.iter_any():
                        *whole, buffer = (buffer + chunk).split(b"\n")
                        for line in whole:
                            yield line
                except (aiohttp.ClientError, TimeoutError, OSError):
                    return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransportError(f"GET {path}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
        await self._api.close()


class KubeClient:
    """Get, list, create, apply, patch and delete, on dictionaries."""

    def __init__(self, transport: Transport, may_write: Callable[[], bool] = lambda: True) -> None:
        self._transport = transport
        self._may_write = may_write
        self.requests = 0

    def guarded(self, may_write: Callable[[], bool]) -> "KubeClient":
        """The same connection; every write asks whether it is allowed, and again as it leaves."""
        return KubeClient(self._transport, may_write)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """The live object, or None when there is none."""
        try:
            return await self._request("GET", kind.path(namespace, name))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def pages(
        self,
        kind: Kind,
        namespace: str | None,
        label_selector: str | None,
        *,
        only_metadata: bool = False,
    ) -> AsyncIterator[tuple[list[Json], str]]:
        """All objects, page by page, each with the resourceVersion of the whole list."""
        query: dict[str, str] = {"limit": str(PAGE)}
        accept = _ONLY_METADATA if only_metadata else _JSON
        if label_selector:
            query["labelSelector"] = label_selector
        while True:
            page = await self._request("GET", kind.path(namespace), query, accept=accept)
            yield page.get("items") or [], page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def named(self, kind: Kind, name: str) -> tuple[Json | None, str]:
        """The cluster-wide object of that name, and the resourceVersion to watch it from."""
        page = await self._request("GET", kind.path(), {"fieldSelector": f"metadata.name={name}"})
        return next(iter(page.get("items") or ()), None), page["metadata"]["resourceVersion"]

    async def watch(
        self, kind: Kind, namespace: str | None, version: str, selector: dict[str, str]
    ) -> AsyncGenerator[tuple[str, Json]]:
        """What happens after a list: ADDED, MODIFIED or DELETED and the object.

        It ends after a few minutes, and when the version is too old: list again then.

        Args:
            kind: what to watch.
            namespace: None for all of them.
            version: the resourceVersion of the list.
            selector: ``labelSelector`` or ``fieldSelector``.
        """
        query = {**selector, "watch": "1", "resourceVersion": version}
        query["timeoutSeconds"] = str(_WATCH_SECONDS)
        path = f"{kind.path(namespace)}?{urlencode(query)}"
        async with aclosing(self._transport.lines(path, {"Accept": _JSON})) as lines:
            async for line in lines:
                event: Json = orjson.loads(line)
                if event["type"] == "ERROR":
                    return
                yield event["type"], event["object"]

    async def events_about(self, namespace: str, uid: str) -> Sequence[Json]:
        """The Events about one object, at most a page of them."""
        query = {"limit": str(_EVENTS), "fieldSelector": f"involvedObject.uid={uid}"}
        page = await self._request("GET", EVENT.path(namespace), query)
        return page.get("items") or []

    async def log_tail(self, namespace: str, pod: str, container: str) -> str:
        """The last few lines that a container wrote."""
        query = {"container": container, "tailLines": "5", "limitBytes": "8192"}
        path = f"{POD.path(namespace, pod)}/log?{urlencode(query)}"
        return (await self._send("GET", path)).decode(errors="replace")

    async def create(self, kind: Kind, obj: Json) -> Json:
        """POST; the fields sent are then owned by the operator.

        A field that the kind does not have is an error, and is not dropped silently.
        """
        namespace: str = obj["metadata"]["namespace"]
        strict = {"fieldValidation": "Strict"}
        return await self._write("POST", kind.path(namespace), canonical(obj), strict)

    async def apply(self, kind: Kind, obj: Json, uid: str, subresource: str = "") -> Json:
        """Server-side apply to an existing object, only while it still has that uid."""
        metadata: Json = obj["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"]) + subresource
        body = canonical({**obj, "metadata": {**metadata, "uid": uid}})
        return await self._write(
            "PATCH", path, body, {"force": "true"}, "application/apply-patch+yaml"
        )

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        """JSON merge patch; put a resourceVersion into the patch to make it conditional."""
        return await self._write(
            "PATCH",
            kind.path(namespace, name),
            canonical(patch),
            content_type="application/merge-patch+json",
        )

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str | None) -> Json | None:
        """Delete; when a uid is given, only while the object still has it. Absence is fine.

        Returns:
            The object while finalizers hold it, else None.
        """
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            left = await self._write("DELETE", kind.path(namespace, name), canonical(body))
        except ApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise
            return None
        return left if left.get("metadata", {}).get("finalizers") else None

    async def replace(self, kind: Kind, obj: Json) -> Json:
        """PUT; conditional on the resourceVersion in the object."""
        metadata: Json = obj["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        # Not canonical, to save time: renewing its Lease is all that an idle operator does.
        return await self._write("PUT", path, orjson.dumps(obj))

    async def _write(
        self,
        method: str,
        path: str,
        body: bytes,
        query: dict[str, str] | None = None,
        content_type: str = _JSON,
    ) -> Json:
        if not self._may_write():
            raise NotLeaderError
        query = {**(query or {})}
        if method != "DELETE":
            query["fieldManager"] = FIELD_MANAGER
        return await self._request(method, path, query, body, content_type)

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> Json:
        if query:
            path = f"{path}?{urlencode(query)}"
        raw = await self._send(method, path, body, content_type, accept)
        return cast("Json", orjson.loads(raw))

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> bytes:
        self.requests += 1
        headers = {"Accept": accept, "Content-Type": content_type}
        status, raw = await self._transport.send(method, path, headers, body, self._may_write)
        if status >= HTTPStatus.BAD_REQUEST:
            raise _error(status, raw)
        return raw


def _error(status: int, raw: bytes) -> ApiError:
    try:
        told: Any = json.loads(raw)
    except ValueError:
        told = None
    if isinstance(told, dict):
        fields = cast("Json", told)
        return ApiError(status, fields.get("reason") or "", fields.get("message") or "")
    return ApiError(status, "", raw[:200].decode(errors="replace"))
