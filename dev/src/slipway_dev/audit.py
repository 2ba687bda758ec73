"""The API server's audit log: who wrote what, which the tests count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = ("--audit-log-maxsize=200", "--audit-log-maxbackup=4", "--audit-log-format=json")


def policy() -> dict[str, object]:
    """Render the policy: one line for each request but those that only the cluster itself makes."""
    own = ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]
    reading = ["get", "list", "watch"]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [
            {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/openapi*"]},
            {"level": "None", "users": own, "verbs": reading},
            {"level": "None", "userGroups": ["system:nodes"], "verbs": reading},
            {"level": "Metadata"},
        ],
    }


def events(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a log, the rotated parts first, in the order they were written."""
    rotated = sorted(log.parent.glob(f"{log.stem}-*{log.suffix}"))
    for part in [*rotated, log]:
        if part.exists():
            with part.open() as lines:
                for line in lines:
                    if line.endswith("\n"):  # the last one may still be in the writing
                        yield json.loads(line)
