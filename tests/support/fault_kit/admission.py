"""An admission webhook on this machine, which refuses pods or adds to them what others forbid."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import trustme

Json = dict[str, Any]
Review = Callable[[Json], Json]
"""From the object under review to the response, less its uid."""

_HOST = "127.0.0.1"


def refuses(message: str) -> Review:
    """Deny everything, with these words."""
    return lambda _: {"allowed": False, "status": {"code": 403, "message": message}}


def adds_privileged_container(pod: Json) -> Json:
    """Add an init container that wants everything, as service meshes do."""
    container = {
        "name": "mesh-init",
        "image": pod["spec"]["containers"][0]["image"],
        "securityContext": {"privileged": True, "runAsNonRoot": False},
    }
    patch = [{"op": "add", "path": "/spec/initContainers/0", "value": container}]
    encoded = base64.b64encode(json.dumps(patch).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


class Webhook:
    """Serves admission reviews over TLS on loopback, where the API server is."""

    def __init__(self, review: Review) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(_HOST).configure_cert(context)
        self._authority = authority.cert_pem.bytes().decode()
        self._server = ThreadingHTTPServer((_HOST, 0), _handler(review))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def registration(self, name: str, namespace: str) -> Json:
        """The one webhook of a configuration that asks about the pods of one namespace."""
        return {
            "name": name,
            "clientConfig": {
                "url": f"https://{_HOST}:{self._server.server_address[1]}/",
                "caBundle": base64.b64encode(self._authority.encode()).decode(),
            },
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "failurePolicy": "Fail",
            "timeoutSeconds": 5,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }


def _handler(review: Review) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = asked["request"]
            response = {"uid": request["uid"], **review(request["object"])}
            body = json.dumps({**asked, "request": None, "response": response}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
