"""Serves the custom metrics API of a cluster, as an adapter before a Prometheus does.

The API server passes /apis/custom.metrics.k8s.io on to it by API aggregation, and autoscalers ask
there. One metric is served, the requests that wait, and for pods alone: as many as a test lets wait
in a namespace are shared out to the pods that are asked about, as by a Service.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from operator_kit.api import Api
from operator_kit.eventually import eventually
from slipway_dev.pki import Authority

Json = dict[str, Any]

METRIC = "nv_inference_pending_request_count"
"""The runtime's gauge of requests that wait."""

_GROUP, _VERSION = "custom.metrics.k8s.io", "v1beta2"
_ROOT = f"/apis/{_GROUP}/{_VERSION}"
_REGISTRATION = f"{_VERSION}.{_GROUP}"
_NAMESPACE, _SERVICE = "kube-system", "custom-metrics"


class CustomMetrics:
    """An HTTPS server on loopback, and the APIService that makes it a part of the cluster's API."""

    def __init__(self, api: Api, folder: Path) -> None:
        """A server that is not started yet.

        Args:
            api: to look pods up.
            folder: for its certificates.
        """
        self._api = api
        self._waiting: dict[str, int] = {}
        authority = Authority(folder)
        # The name by which the API server verifies a Service's certificate, whatever its address.
        own = authority.issue("server", _SERVICE, hosts=[f"{_SERVICE}.{_NAMESPACE}.svc"])
        self._authority = authority.files.certificate.read_bytes()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.certificate, own.key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        # Hands are shaken in the connection's own thread, not in the one that takes connections.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> CustomMetrics:
        """Serve, and return when the API server passes requests on."""
        self._thread.start()
        outside: Json = {"type": "ExternalName", "externalName": "localhost"}
        service: Json = {"metadata": {"name": _SERVICE}, "spec": outside}
        self._api.create("services", service, _NAMESPACE)
        self._api.create(
            "apiservices",
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": _REGISTRATION},
                "spec": {
                    "group": _GROUP,
                    "version": _VERSION,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "caBundle": base64.b64encode(self._authority).decode(),
                    "service": {
                        "namespace": _NAMESPACE,
                        "name": _SERVICE,
                        "port": self._server.server_port,
                    },
                },
            },
        )
        eventually(lambda: self._api.request("GET", _ROOT), within=30, show=self._registration)
        return self

    def stop(self) -> None:
        """Take it out of the cluster's API, whose discovery would fail without its server."""
        self._api.delete("apiservices", None, _REGISTRATION)
        self._api.delete("services", _NAMESPACE, _SERVICE)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def report(self, namespace: str, waiting: int) -> None:
        """Let so many requests wait in a namespace from now on."""
        self._waiting[namespace] = waiting

    # ---- inside ----

    def _registration(self) -> str:
        return json.dumps(self._api.get("apiservices", None, _REGISTRATION), indent=2)

    def _answer(self, target: str) -> Json | None:
        url = urlsplit(target)
        if url.path == _ROOT:
            return _resources()
        match unquote(url.path).removeprefix(f"{_ROOT}/").split("/"):
            case ["namespaces", namespace, "pods", "*", metric] if metric == METRIC:
                (selector,) = parse_qs(url.query).get("labelSelector", [""])
                return self._values(namespace, selector)
            case _:
                return None

    def _values(self, namespace: str, selector: str) -> Json:
        pods = self._api.list("pods", namespace, labelSelector=selector)
        milli = 1000 * self._waiting.get(namespace, 0) // max(1, len(pods))
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        items = [
            {
                "describedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "namespace": namespace,
                    "name": pod["metadata"]["name"],
                },
                "metric": {"name": METRIC},
                "timestamp": now,
                "value": f"{milli}m",
            }
            for pod in pods
        ]
        return {
            "apiVersion": f"{_GROUP}/{_VERSION}",
            "kind": "MetricValueList",
            "metadata": {},
            "items": items,
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = answer(self.path)
                body = json.dumps(found or _not_found(self.path)).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        return Handler


def _resources() -> Json:
    """The discovery document."""
    pods: Json = {
        "name": f"pods/{METRIC}",
        "singularName": "",
        "namespaced": True,
        "kind": "MetricValueList",
        "verbs": ["get"],
    }
    return {
        "apiVersion": "v1",
        "kind": "APIResourceList",
        "groupVersion": f"{_GROUP}/{_VERSION}",
        "resources": [pods],
    }


def _not_found(target: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "reason": "NotFound",
        "message": f"there is no {target}",
        "code": 404,
    }
