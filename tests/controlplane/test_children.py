"""What one ModelDeployment makes, and how all of it goes again."""

from __future__ import annotations

import pytest
from operator_kit.api import Api
from operator_kit.eventually import eventually
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space

from .conftest import RecordFault

_SCALED = {"replicas": 2, "autoscaling": {"minReplicas": 2, "maxReplicas": 4}}


def test_a_first_apply_makes_deployment_service_and_revision(
    operator: OperatorProcess, space: Space
) -> None:
    view = space.settle()
    (revision,) = space.revisions()
    deployment, service = space.deployment(), space.child("services")
    for child in (deployment, service, revision):
        (owner,) = child["metadata"]["ownerReferences"]
        assert owner["kind"] == "ModelDeployment"
        assert owner["uid"] == view.obj["metadata"]["uid"]
        assert owner["controller"]
    template = deployment["spec"]["template"]
    assert template["metadata"] == revision["data"]["template"]["metadata"]
    assert template["metadata"]["annotations"]["slipway.dev/digest"] == space.digest("v1")
    (fetch,) = template["spec"]["initContainers"]
    (serve,) = template["spec"]["containers"]
    assert space.digest("v1") in fetch["args"]
    assert space.digest("v1") in serve["args"]
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, "http")
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert view.serving == space.digest("v1")
    assert view.status["url"] == f"http://{MODEL}.{space.namespace}.svc"


def test_the_pods_satisfy_the_restricted_pod_security_standard(
    operator: OperatorProcess, space: Space, api: Api
) -> None:
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.patch("namespaces", None, space.namespace, {"metadata": {"labels": enforced}})
    assert space.settle().status["readyReplicas"] == 1


def test_two_replicas_bring_a_disruption_budget_and_one_takes_it_away(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle(replicas=2)
    assert space.child("poddisruptionbudgets")["spec"]["maxUnavailable"] == 1
    space.settle(replicas=1)

    def gone() -> None:
        assert not space.of("poddisruptionbudgets")

    space.eventually(gone)


def test_the_scale_subresource_reaches_the_deployment(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    space.scale(3)
    space.until("has three pods", lambda m: m.settled and m.status.get("readyReplicas") == 3)
    assert space.deployment()["spec"]["replicas"] == 3
    scale = space.api.request(
        "GET",
        f"/apis/slipway.dev/v1alpha1/namespaces/{space.namespace}/modeldeployments/{MODEL}/scale",
    )
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 3)
    pods = space.api.list("pods", space.namespace, labelSelector=scale["status"]["selector"])
    assert len(pods) == 3


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(
            policy,
            marks=pytest.mark.fault("People", f"deleted ({policy.lower()}) and created at once"),
        )
        for policy in ("Background", "Foreground")
    ],
)
def test_deleted_and_created_again_at_once_converges(
    operator: OperatorProcess, space: Space, policy: str, record_fault: RecordFault
) -> None:
    before = space.settle(replicas=2).obj["metadata"]["uid"]
    space.delete(policy=policy)

    def created_again() -> None:
        # With foreground deletion the old object stays until its children are gone.
        space.apply(replicas=2)
        assert "deletionTimestamp" not in space.view().obj["metadata"]

    space.eventually(created_again)
    view = space.until(
        "is served anew",
        lambda m: m.settled and m.status.get("readyReplicas") == 2,
        # Kubernetes' garbage collector takes note of a new CRD only every half minute.
        within=60,
    )
    uid = view.obj["metadata"]["uid"]
    assert uid != before
    for resource in ("deployments", "services", "controllerrevisions", "poddisruptionbudgets"):
        owners = {o["metadata"]["ownerReferences"][0]["uid"] for o in space.of(resource)}
        assert owners == {uid}, resource
    record_fault(
        reason="WaitingForDeletion" if policy == "Background" else "",
        seen="waits until the children of the deleted one are gone, and touches none of them",
        healed="by itself: served anew by children of its own",
    )


@pytest.mark.fault("People", "namespace deleted")
def test_a_namespace_with_a_served_model_can_be_deleted(
    operator: OperatorProcess, space: Space, api: Api, record_fault: RecordFault
) -> None:
    space.settle(**_SCALED)
    space.remove()

    def gone() -> None:
        namespace = api.get("namespaces", None, space.namespace)
        assert namespace is None, namespace

    eventually(gone, within=60)
    assert operator.running()
    record_fault(seen="nothing holds it up", healed="all is gone; the operator goes on")


def test_encryption_comes_to_the_service_and_goes_again_field_by_field(
    operator: OperatorProcess, space: Space
) -> None:
    def ports() -> dict[str, tuple[int, str | None]]:
        listed = space.child("services")["spec"]["ports"]
        return {port["name"]: (port["port"], port.get("appProtocol")) for port in listed}

    plain = {"http": (80, None), "grpc": (9000, "kubernetes.io/h2c")}
    space.settle(runtime={"grpc": True})
    assert ports() == plain
    space.settle(runtime={"grpc": True, "tls": {"secretName": "certificate"}})
    assert space.view().status["url"] == f"https://{MODEL}.{space.namespace}.svc"
    assert ports() == {"http": (80, None), "https": (443, "https"), "grpc": (9000, None)}
    space.settle(runtime={"grpc": True})
    assert space.view().status["url"] == f"http://{MODEL}.{space.namespace}.svc"
    assert ports() == plain
