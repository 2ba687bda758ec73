"""The rights of the chart: enough for all that the other tests show, and no more."""

from __future__ import annotations

import pytest
from operator_kit.audit import AuditLog
from operator_kit.installation import NAMESPACE, RELEASE, Installation
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

from slipway_dev.cluster import Cluster

_OPERATOR = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("get", "secrets"),
        ("list", "secrets"),
        ("watch", "secrets"),
        ("create", "secrets"),
        ("get", "configmaps"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("get", "pods/log"),
        ("delete", "deployments.apps"),
        ("update", "modeldeployments.slipway.dev"),
        ("patch", "modeldeployments.slipway.dev"),
        ("delete", "modeldeployments.slipway.dev"),
        ("create", "serviceaccounts/token"),
        ("patch", "nodes"),
        ("create", "clusterroles.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
    ],
)
def test_the_operator_may_not(
    verb: str, what: str, cluster: Cluster, installation: Installation
) -> None:
    resource, _, subresource = what.partition("/")
    said = cluster.kubectl(
        "auth",
        "can-i",
        verb,
        resource,
        f"--subresource={subresource}",
        f"--as={_OPERATOR}",
        check=False,
    )
    assert said.stdout.strip() == "no"


def test_a_model_with_credentials_is_served_without_reading_them(
    operator: OperatorProcess, space: Space, audit: AuditLog
) -> None:
    mark = audit.mark()
    space.api.create(
        "secrets",
        {
            "metadata": {"name": "reader"},
            "stringData": {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
        },
        space.namespace,
    )
    space.settle(
        replicas=2,
        autoscaling={"minReplicas": 2, "maxReplicas": 3},
        model={"storage": {"secretName": "reader", "endpoint": "https://s3.example.com"}},
    )
    (fetch,) = space.deployment()["spec"]["template"]["spec"]["initContainers"]
    (serve,) = space.deployment()["spec"]["template"]["spec"]["containers"]
    assert "secretKeyRef" in str(fetch["env"])
    assert "reader" not in str(serve)
    asked = audit.since(mark, operator.credential)
    assert asked
    assert not [request for request in asked if request.resource == "secrets"]
    here = [request for request in asked if request.namespace == space.namespace]
    assert here
    assert not [request for request in here if request.code == 403]
