"""In steady state the operator writes nothing but its Lease, however often it looks."""

from __future__ import annotations

import time
from typing import Any

from operator_kit import pod_status
from operator_kit.audit import AuditLog
from operator_kit.installation import NAMESPACE, RELEASE
from operator_kit.space import Space

from .conftest import Launch

_QUIET_SECONDS = 30.0
_RESYNC_SECONDS = 1.5
# A machine that stands still for seconds ends no leader, and it still renews several times.
_LEADERSHIP = {"namespace": NAMESPACE, "name": RELEASE, "durationSeconds": 20,
               "renewDeadlineSeconds": 15, "retryPeriodSeconds": 0.5}  # fmt: skip
_AUTOSCALED = {"replicas": 2, "autoscaling": {"minReplicas": 2, "maxReplicas": 5}}

# Everything that could make a wanted field and its stored form differ.
_ODD_SPELLINGS: dict[str, dict[str, Any]] = {
    "quantities": {
        "runtime": {
            "resources": {
                "requests": {"cpu": "1000m", "memory": "1048576Ki"},
                "limits": {"cpu": 2, "memory": "1024Mi"},
            },
            "cacheSize": "0.5Gi",
        }
    },
    "golden-and-secrets": {
        "golden": {
            "samples": [
                {
                    "inputs": [
                        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[1e-7, 2]]},
                        {"name": "w", "datatype": "BYTES", "shape": [1], "data": ["$(é) $$"]},
                    ],
                    "outputs": [
                        {"name": "y", "datatype": "INT64", "shape": [1], "data": [2**53 - 1]}
                    ],
                }
            ],
            "atol": 1e-6,
        },
        "runtime": {
            "sharedMemory": "0.25Gi",
            "tls": {"secretName": "serving"},
            "bearerTokens": {"secretName": "clients"},
            "grpc": True,
            "sessionOptions": {"session.intra_op.allow_spinning": "0"},
        },
    },
    "percentages": {"replicas": 3, "rollout": {"maxSurge": "50%", "maxUnavailable": "0%"}},
    "environment": {
        "runtime": {"env": [{"name": "EMPTY"}, {"name": "B", "value": "é"}, {"name": "A"}]}
    },
    "template": {
        "template": {
            "labels": {"example.com/team": "risk"},
            "annotations": {"example.com/note": "<b>&amp;"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "affinity": {
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 1,
                            "podAffinityTerm": {
                                "topologyKey": "kubernetes.io/hostname",
                                "labelSelector": {"matchLabels": {"a": "b"}},
                            },
                        }
                    ]
                }
            },
            "imagePullSecrets": [{"name": "registry"}],
            "terminationGracePeriodSeconds": 0,
        }
    },
    "storage": {
        "model": {
            "uri": "https://models.example.com/m.onnx?version=1&raw=<true>",
            "storage": {
                "secretName": "reader",
                "caBundle": {"configMapName": "corp"},
                "addressingStyle": "path",
            },
        }
    },
}


def _fill(space: Space) -> None:
    """Twenty models in all kinds of steady state."""
    for name, spec in _ODD_SPELLINGS.items():
        space.apply(name, f"{name}-1", **spec)
    for number in range(8):
        space.apply(f"plain-{number}", f"plain-{number}", replicas=1 + number % 2)
    space.apply("scaled", "scaled", **_AUTOSCALED)
    space.apply("zero", "zero", replicas=0)
    space.apply("rolled-back", "good")
    space.apply("held", "held")
    space.apply("denied", "denied")
    space.apply("refused", "refused", pool="tpu")
    space.apply("suspended", "suspended", suspend=True)


def test_nothing_is_written_while_nothing_changes(
    launch: Launch, space: Space, audit: AuditLog
) -> None:
    operator = launch(leaderElection=_LEADERSHIP, resyncSeconds=_RESYNC_SECONDS).until_leading()
    for version in ("bad", "held"):
        space.behave(version, pod_status.fetch_fails(20, "DigestMismatch", "other bytes"))
    space.behave("denied", pod_status.fetch_fails(31, "AccessDenied", "403"))
    _fill(space)
    served = [*_ODD_SPELLINGS, *(f"plain-{n}" for n in range(8)), "scaled", "rolled-back", "zero"]
    for name in served:
        space.until("is served", lambda m: m.settled, name, within=30)
    space.apply("rolled-back", "bad")
    space.until("went back", lambda m: m.stalled == "RolledBack", "rolled-back")
    space.until("is held", lambda m: m.stalled == "RolloutHeld", "held")
    space.until("is denied", lambda m: m.reason == "AccessDenied", "denied")
    space.until("is refused", lambda m: m.stalled == "UnknownPool", "refused")
    space.until("is suspended", lambda m: m.reason == "Suspended", "suspended")
    # A second version each: then every Deployment has been applied to, not only created.
    for name, spec in _ODD_SPELLINGS.items():
        space.settle(name, f"{name}-2", **spec)
    assert len(space.api.list("modeldeployments", space.namespace)) == 21

    def pods_are_gone() -> None:
        assert not space.pods("bad", "rolled-back")

    space.eventually(pods_are_gone, "rolled-back")
    _wait_until_quiet(audit, operator.credential, space.namespace)
    mark = audit.mark()
    time.sleep(_QUIET_SECONDS)
    asked = audit.since(mark, operator.credential)
    assert not [
        str(request)
        for request in audit.writes(mark, operator.credential)
        # Namespaces of other tests may still be on their way out.
        if request.namespace in (space.namespace, "")
    ]
    renewals = [r for r in asked if r.resource == "leases" and r.verb == "update"]
    assert len(renewals) >= 3, "it leads all the time"
    resyncs = [r for r in asked if r.resource == "modeldeployments" and r.verb == "list"]
    assert len(resyncs) >= 12, "and looked at each again: a twelfth a time"


def _wait_until_quiet(audit: AuditLog, credential: str, namespace: str) -> None:
    """Until a second has passed without a write: what was brought about above has ended."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        mark = audit.mark()
        time.sleep(1)
        written = [r for r in audit.writes(mark, credential) if r.namespace == namespace]
        if not written:
            return
    raise AssertionError(f"still writing: {written[-1]}")
