"""Ways to break the cluster around a model's pods, and to mend it again."""

from __future__ import annotations

import trustme
from operator_kit.api import ApiError

from fault_kit.admission import Webhook, adds_privileged_container, refuses
from fault_kit.stage import Change, Stage

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"


def missing_image(stage: Stage) -> Change:
    return Change(stage.another(), spec={"runtime": {"image": _late_image(stage)}})


def _late_image(stage: Stage) -> str:
    return f"slipway/runtime:{stage.namespace}"


def load_the_image(stage: Stage) -> None:
    stage.testbed.cluster.tag_image("slipway/runtime:dev", _late_image(stage))


def no_node_fits(stage: Stage) -> Change:
    selector = {f"example.com/{stage.namespace}": "yes"}
    return Change(stage.another(), spec={"template": {"nodeSelector": selector}})


def label_the_node(stage: Stage) -> None:
    patch = {"metadata": {"labels": {f"example.com/{stage.namespace}": "yes"}}}
    stage.api.patch("nodes", None, stage.testbed.cluster.node_name, patch)


def quota(stage: Stage) -> Change:
    limit = {"metadata": {"name": "one-pod"}, "spec": {"hard": {"pods": "1"}}}
    stage.api.create("resourcequotas", limit, stage.namespace)
    _until_pods_are_refused(stage)
    return Change(stage.another())


def lift_the_quota(stage: Stage) -> None:
    stage.api.delete("resourcequotas", stage.namespace, "one-pod")


def _until_pods_are_refused(stage: Stage) -> None:
    """Admission by configuration takes effect a little after it was written."""
    (pod,) = stage.pods()
    template = {"metadata": {"generateName": "probe-"}, "spec": pod["spec"]}

    def refused() -> None:
        where = f"/api/v1/namespaces/{stage.namespace}/pods"
        try:
            stage.api.request("POST", where, {"dryRun": "All"}, template)
        except ApiError:
            return
        raise AssertionError("pods are still admitted")

    stage.eventually(refused, 40)


def pod_security(stage: Stage) -> Change:
    """Our pods keep to the restricted profile; what a mesh adds to them does not."""
    return _webhook(stage, "mutating", Webhook(adds_privileged_container))


def webhook_denies(stage: Stage) -> Change:
    return _webhook(stage, "validating", Webhook(refuses("images must be signed")))


def _webhook(stage: Stage, kind: str, webhook: Webhook) -> Change:
    server = stage.enter(webhook)
    configuration = {
        "metadata": {"name": stage.namespace},
        "webhooks": [server.registration("pods.example.com", stage.namespace)],
    }
    where = f"{_ADMISSION}/{kind}webhookconfigurations"
    stage.api.request("POST", where, body=configuration)
    stage.notes["webhook"] = f"{where}/{stage.namespace}"
    stage.afterwards(remove_the_webhook, stage)
    _until_pods_are_refused(stage)
    return Change(stage.another())


def remove_the_webhook(stage: Stage) -> None:
    where = stage.notes.pop("webhook", None)
    if where is not None:
        stage.api.request("DELETE", where)


def missing_service_account(stage: Stage) -> Change:
    return Change(stage.another(), spec={"template": {"serviceAccountName": "reader"}})


def create_the_service_account(stage: Stage) -> None:
    stage.api.create("serviceaccounts", {"metadata": {"name": "reader"}}, stage.namespace)


def missing_config_map(stage: Stage) -> Change:
    return Change(stage.another(), {"caBundle": {"configMapName": "corporate-ca"}})


def create_the_config_map(stage: Stage) -> None:
    authority = trustme.CA().cert_pem.bytes().decode()
    obj = {"metadata": {"name": "corporate-ca"}, "data": {"ca.crt": authority}}
    stage.api.create("configmaps", obj, stage.namespace)


def gpu_without_a_device(stage: Stage) -> Change:
    """The node advertises a GPU that is not there."""
    _patch_gpu(stage, "add")
    stage.afterwards(_patch_gpu, stage, "remove")

    def offered() -> None:
        node = stage.api.get("nodes", None, stage.testbed.cluster.node_name)
        assert node is not None
        assert node["status"]["allocatable"].get("nvidia.com/gpu") == "1"

    stage.eventually(offered, 60)
    # By default the pool allows no surge, since a GPU is seldom free: then nothing would answer.
    surge = {"maxSurge": 1, "maxUnavailable": 0}
    return Change(stage.another(), spec={"pool": "gpu", "rollout": surge})


def _patch_gpu(stage: Stage, operation: str) -> None:
    patch = [{"op": operation, "path": "/status/capacity/nvidia.com~1gpu", "value": "1"}]
    node = stage.testbed.cluster.node_name
    stage.api.patch("nodes", None, node, patch, "json", subresource="status")
