"""Who wrote what: questions to the API server's audit log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_dev import audit

_WRITES = {"create", "update", "patch", "delete", "deletecollection"}
_CREDENTIAL = "authentication.kubernetes.io/credential-id"


@dataclass(frozen=True)
class Request:
    """One request that the API server answered."""

    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    message: str
    user: str
    credential: str
    agent: str
    time: str
    ended: str

    def __str__(self) -> str:
        return f"{self.time} {self.verb} {self.resource} {self.namespace}/{self.name} {self.code}"


class AuditLog:
    """Reads the log from a mark on. The server writes a line when the request has ended."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def mark(self) -> int:
        """The present end of the log."""
        return self._log.stat().st_size

    def since(self, mark: int, credential: str | None = None) -> list[Request]:
        """Requests after the mark, of one credential or of all, oldest first."""
        with self._log.open("rb") as file:
            file.seek(mark)
            lines = file.read().split(b"\n")[:-1]
        wanted = credential.encode() if credential else b""
        found = [_request(json.loads(line)) for line in lines if wanted in line]
        return [item for item in found if credential in (None, item.credential)]

    def of(self, credentials: set[str]) -> list[Request]:
        """All requests of these credentials since the cluster began, oldest first."""
        found = map(_request, audit.events(self._log))
        return [item for item in found if item.credential in credentials]

    def writes(self, mark: int, credential: str) -> list[Request]:
        """What one credential wrote after the mark, Lease renewals aside."""
        return [
            item
            for item in self.since(mark, credential)
            if item.verb in _WRITES and item.resource != "leases"
        ]


def _request(event: dict[str, Any]) -> Request:
    about = event.get("objectRef") or {}
    resource = about.get("resource", "")
    if about.get("subresource"):
        resource = f"{resource}/{about['subresource']}"
    (credential,) = (event["user"].get("extra") or {}).get(_CREDENTIAL) or [""]
    return Request(
        verb=event["verb"],
        resource=resource,
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=(event.get("responseStatus") or {}).get("code", 0),
        message=(event.get("responseStatus") or {}).get("message", ""),
        user=event["user"].get("username", ""),
        credential=credential,
        agent=event.get("userAgent", ""),
        time=event["requestReceivedTimestamp"],
        ended=event["stageTimestamp"],
    )
