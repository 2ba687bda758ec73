"""A small synchronous client of the API server, on plain dictionaries.

kubectl costs a tenth of a second of processor time for each call; the tests make thousands.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from slipway_dev import state as states

Json = dict[str, Any]

_GROUPS = {
    "modeldeployments": "/apis/slipway.dev/v1alpha1",
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "controllerrevisions": "/apis/apps/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "poddisruptionbudgets": "/apis/policy/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "ingresses": "/apis/networking.k8s.io/v1",
    "podmonitors": "/apis/monitoring.coreos.com/v1",
    "scaledobjects": "/apis/keda.sh/v1alpha1",
    "grpcroutes": "/apis/gateway.networking.k8s.io/v1",
    "httproutes": "/apis/gateway.networking.k8s.io/v1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "apiservices": "/apis/apiregistration.k8s.io/v1",
}
_PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


class ApiError(Exception):
    """The API server refused; ``status`` is the HTTP status code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Unreachable(Exception):  # noqa: N818 - a state, not a defect
    """The API server does not answer."""


class Api:
    """Reads and writes objects by resource, namespace and name, as administrator."""

    def __init__(self, server: str, authority: Path, certificate: Path, key: Path) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        context.load_cert_chain(certificate, key)
        self._server = server
        self._pool = urllib3.PoolManager(
            ssl_context=context, retries=False, maxsize=8, timeout=urllib3.Timeout(10)
        )

    @classmethod
    def of_cluster(cls, name: str) -> Api:
        """The API server of a cluster of dev/cluster."""
        state = states.load(name)
        assert state is not None, f"no cluster {name}"
        admin = state.certificate("admin")
        server = f"https://127.0.0.1:{state.ports['apiserver']}"
        return cls(server, state.authority, admin.certificate, admin.key)

    def get(self, resource: str, namespace: str | None, name: str) -> Json | None:
        """The object, or None."""
        try:
            return self.request("GET", path(resource, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, resource: str, namespace: str | None = None, **query: str) -> list[Json]:
        """The objects of one resource."""
        return self.listing(resource, namespace, **query)["items"]

    def listing(self, resource: str, namespace: str | None = None, **query: str) -> Json:
        """The same with the list's own metadata."""
        return self.request("GET", path(resource, namespace), query)

    def create(self, resource: str, obj: Json, namespace: str | None = None) -> Json:
        """POST one object."""
        return self.request("POST", path(resource, namespace), body=obj)

    def patch(
        self,
        resource: str,
        namespace: str | None,
        name: str,
        patch: Json | list[Json],
        kind: str = "merge",
        subresource: str = "",
        manager: str = "tests",
        **query: str,
    ) -> Json:
        """Patch one object, under the name of a field manager."""
        return self.request(
            "PATCH",
            path(resource, namespace, name) + (f"/{subresource}" if subresource else ""),
            {"fieldManager": manager, **query},
            patch,
            _PATCHES[kind],
        )

    def delete(self, resource: str, namespace: str | None, name: str, **options: Any) -> None:
        """Delete one object; it need not exist."""
        try:
            self.request("DELETE", path(resource, namespace, name), body=options or None)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def delete_all(self, resource: str, namespace: str) -> None:
        """Delete the objects of one resource in a namespace."""
        self.request("DELETE", path(resource, namespace))

    def watch(self, resource: str, namespace: str | None, version: str, **query: str) -> Iterator:
        """Yield (type, object) until the server or a time-out ends it."""
        wanted = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "300", **query}
        url = f"{self._server}{path(resource, namespace)}?{urlencode(wanted)}"
        try:
            response = self._pool.request(
                "GET", url, preload_content=False, timeout=urllib3.Timeout(connect=5, read=300)
            )
            try:
                buffer = b""
                for chunk in response.stream(None):
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        yield event["type"], event["object"]
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(str(error)) from error

    def request(
        self,
        method: str,
        where: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Json:
        """One request to any path."""
        url = self._server + where + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        try:
            response = self._pool.request(
                method, url, body=data, headers={"Content-Type": content_type}
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(str(error)) from error
        if response.status >= 400:
            try:
                message = json.loads(response.data)["message"]
            except (ValueError, KeyError, TypeError):
                message = response.data.decode(errors="replace")
            raise ApiError(response.status, message)
        return json.loads(response.data)


def path(resource: str, namespace: str | None = None, name: str | None = None) -> str:
    """The URL path of a collection or of one object."""
    root = _GROUPS.get(resource, "/api/v1")
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{middle}/{resource}" + (f"/{name}" if name else "")
