"""Children of kinds that the cluster may lack, with definitions that come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_kit.api import Api, ApiError
from operator_kit.audit import AuditLog
from operator_kit.eventually import eventually
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.installation import Installation
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space

from slipway_dev.cluster import Cluster

Json = dict[str, Any]

DEFINITIONS = Path(__file__).parents[1] / "support/operator_kit/definitions"
VALUES = [
    f"integrations.{name}.enabled=true" for name in ("podMonitor", "keda", "gateway", "ingress")
]
ROUTE: Json = {
    "hostnames": ["models.example.com"],
    "path": "/fraud",
    # Two listeners of one Gateway: only together with sectionName are they told apart.
    "gateway": {
        "parentRefs": [
            {"name": "public", "namespace": "gateways", "sectionName": "https"},
            {"name": "public", "namespace": "gateways", "sectionName": "https-internal"},
        ]
    },
}
GRPC: Json = {**ROUTE, "gateway": {**ROUTE["gateway"], "grpcHostnames": ["grpc.example.com"]}}
TRIGGER: Json = {
    "type": "prometheus",
    "metadata": {"serverAddress": "http://prometheus:9090", "query": "up", "threshold": "4"},
}


def define(api: Api, plural: str) -> None:
    """Install a CustomResourceDefinition; it is served a moment later."""
    definition = yaml.safe_load((DEFINITIONS / f"{plural}.yaml").read_text())
    name = definition["metadata"]["name"]
    api.patch("customresourcedefinitions", None, name, definition, "apply", force="true")

    def served() -> None:
        api.list(plural, "default")

    eventually(served, 15.0)


def undefine(api: Api, name: str) -> None:
    """Remove a definition, and with it all its objects."""
    api.delete("customresourcedefinitions", None, name)

    def gone() -> None:
        assert api.get("customresourcedefinitions", None, name) is None

    eventually(gone, 15.0)


@pytest.fixture(scope="module")
def integrated(cluster: Cluster, api: Api, installation: Installation) -> Installation:
    """The chart's rights with every integration switched on, beside the usual ones."""
    chart = Installation(cluster, api, "fullnameOverride=integrated", *VALUES)
    chart.grant()
    return chart


@pytest.fixture(scope="module")
def operator(
    integrated: Installation,
    api: Api,
    audit: AuditLog,
    kubelet: FakeKubelet,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OperatorProcess]:
    """Starts in a cluster that has none of the kinds; at the end it was refused nothing."""
    mark = audit.mark()
    folder = tmp_path_factory.mktemp("operators")
    process = OperatorProcess(integrated, folder, "integrated").start().until_leading()
    yield process
    process.kill()
    refused = [r for r in audit.since(mark, process.credential) if r.code == 403]
    # Not while a definition, and what is left of it, is about to go.
    assert not [f"{r}: {r.message}" for r in refused if "terminating" not in r.message]


@pytest.fixture(scope="module")
def scaled_objects(operator: OperatorProcess, api: Api) -> None:
    define(api, "scaledobjects")


def test_a_kind_is_used_as_soon_as_it_is_installed_and_missed_when_it_goes(
    operator: OperatorProcess, api: Api, space: Space, audit: AuditLog
) -> None:
    pid = operator.pid
    space.apply(route=ROUTE)
    view = space.until("misses the kind", lambda m: m.stalled == "KindMissing")
    assert view.row == ("False", "-", "True", "True")
    assert "install the Gateway API" in view.message
    assert view.status["url"] == f"http://{MODEL}.{space.namespace}.svc"

    define(api, "httproutes")
    view = space.until("has its route", lambda m: m.settled, within=10.0)
    assert view.status["url"] == "https://models.example.com/fraud"
    route = space.child("httproutes")["spec"]
    (rule,) = route["rules"]
    assert rule["backendRefs"][0]["name"] == MODEL
    assert rule["filters"][0]["urlRewrite"]["path"]["replacePrefixMatch"] == "/"

    def parents() -> list[str]:
        found = space.child("httproutes")["spec"]["parentRefs"]
        return [reference["sectionName"] for reference in found]

    for wanted in (["https"], ["https", "https-internal"]):
        references = ROUTE["gateway"]["parentRefs"][: len(wanted)]
        space.apply(route={**ROUTE, "gateway": {"parentRefs": references}})

        def changed(wanted: list[str] = wanted) -> None:
            assert parents() == wanted

        space.eventually(changed)
    space.until("is settled again", lambda m: m.settled)

    # The API server's defaults are no difference, and nobody asks again and again.
    mark = audit.mark()
    patch = {"metadata": {"annotations": {"tests": "look again"}}}
    space.api.patch("httproutes", space.namespace, MODEL, patch)
    space.api.patch("modeldeployments", space.namespace, MODEL, patch)

    def looked() -> None:
        assert audit.since(mark)

    space.eventually(looked)
    space.until("stays so", lambda m: m.settled)
    here = [w for w in audit.writes(mark, operator.credential) if w.namespace == space.namespace]
    assert not here

    undefine(api, "httproutes.gateway.networking.k8s.io")
    space.until("misses the kind again", lambda m: m.stalled == "KindMissing", within=10.0)
    assert (operator.running(), operator.pid) == (True, pid)
    assert len(space.revisions()) == 1


def test_a_pod_monitor_comes_with_every_model_once_there_is_such_a_kind(
    operator: OperatorProcess, api: Api, space: Space
) -> None:
    space.settle()
    define(api, "podmonitors")
    monitor = space.eventually(lambda: space.child("podmonitors"))
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (serve,) = space.deployment()["spec"]["template"]["spec"]["containers"]
    assert endpoint["port"] in {port["name"] for port in serve["ports"]}
    space.api.patch("podmonitors", space.namespace, MODEL, {"spec": {"podMetricsEndpoints": []}})

    def healed() -> None:
        assert space.child("podmonitors")["spec"]["podMetricsEndpoints"] == [endpoint]

    space.eventually(healed)
    space.apply(monitoring={"enabled": False})

    def gone() -> None:
        assert not space.of("podmonitors")

    space.eventually(gone)
    space.until("is served", lambda m: m.settled)


def _scale(space: Space, replicas: int, manager: str) -> None:
    """Write the number as an autoscaler does."""
    body = {"spec": {"replicas": replicas}}
    space.api.patch("deployments", space.namespace, MODEL, body, subresource="scale",
                    manager=manager)  # fmt: skip


def _numbers_since(space: Space, version: str) -> set[int]:
    query = {"fieldSelector": f"metadata.name={MODEL}", "timeoutSeconds": "1"}
    events = space.api.watch("deployments", space.namespace, version, **query)
    return {deployment["spec"]["replicas"] for _, deployment in events}


def _only(space: Space, there: str, gone: str) -> None:
    assert space.of(there)
    assert not space.of(gone)


def test_handing_over_between_autoscalers_never_dips(
    scaled_objects: None, operator: OperatorProcess, space: Space
) -> None:
    bounds = {"minReplicas": 2, "maxReplicas": 9}
    space.settle(replicas=5)
    began = space.deployment()["metadata"]["resourceVersion"]
    space.settle(replicas=5, autoscaling=bounds)
    _scale(space, 6, "kube-controller-manager")
    triggered = {**bounds, "triggers": [TRIGGER]}
    space.apply(replicas=5, autoscaling=triggered)
    space.eventually(lambda: _only(space, "scaledobjects", "horizontalpodautoscalers"))
    fewer = {"type": "cron", "metadata": {"timezone": "UTC"}}
    space.apply(replicas=5, autoscaling={**triggered, "triggers": [fewer]})

    def followed() -> None:
        (_, trigger) = space.child("scaledobjects")["spec"]["triggers"]
        assert trigger == fewer

    space.eventually(followed)
    _scale(space, 7, "keda")
    # As KEDA does, so that it can take its own autoscaler away first.
    held = {"metadata": {"finalizers": ["finalizer.keda.sh/tests"]}}
    space.api.patch("scaledobjects", space.namespace, MODEL, held)
    space.apply(replicas=5, autoscaling=bounds)

    def asked_to_go() -> None:
        assert "deletionTimestamp" in space.child("scaledobjects")["metadata"]

    space.eventually(asked_to_go)
    space.until("is served", lambda m: m.settled)
    assert not space.of("horizontalpodautoscalers")
    space.api.patch("scaledobjects", space.namespace, MODEL, {"metadata": {"finalizers": None}})
    space.eventually(lambda: _only(space, "horizontalpodautoscalers", "scaledobjects"))
    # A change of the operator's own, with the number in somebody else's hands.
    space.settle(version="v2", replicas=5, autoscaling=bounds)
    assert _numbers_since(space, began) <= {5, 6, 7}
    assert space.deployment()["spec"]["replicas"] == 7


def test_what_keda_scales_to_zero_stays_there_until_keda_scales_it_up(
    scaled_objects: None, operator: OperatorProcess, space: Space
) -> None:
    scaling = {"minReplicas": 0, "maxReplicas": 3, "triggers": [TRIGGER]}
    space.settle(replicas=2, autoscaling=scaling)
    scaled = space.child("scaledobjects")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 3)
    assert [trigger["type"] for trigger in scaled["triggers"]] == ["cpu", "prometheus"]
    _scale(space, 0, "keda")
    view = space.until("sleeps", lambda m: m.reason == "ScaledToZero")
    assert "trigger of KEDA" in view.message
    began = space.deployment()["metadata"]["resourceVersion"]
    space.apply(version="v2", replicas=2, autoscaling=scaling)
    space.until("sleeps on", lambda m: m.current and m.reason == "ScaledToZero")
    assert _numbers_since(space, began) == {0}
    _scale(space, 1, "keda")
    view = space.until("wakes", lambda m: m.settled and m.reason == "Serving")
    assert view.serving == space.digest("v2")


def test_an_ingress_leads_to_the_model(operator: OperatorProcess, space: Space) -> None:
    ingress = {"className": "nginx", "tlsSecretName": "tls", "annotations": {"example.com/a": "b"}}
    view = space.settle(route={"hostnames": ["fraud.example.com"], "ingress": ingress})
    made = space.child("ingresses")
    assert made["metadata"]["annotations"] == {"example.com/a": "b"}
    assert made["spec"]["tls"] == [{"hosts": ["fraud.example.com"], "secretName": "tls"}]
    (path,) = made["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": MODEL, "port": {"name": "http"}}
    assert view.status["url"] == "https://fraud.example.com"
    space.apply(route={"hostnames": ["fraud.example.com"], "ingress": {"className": "nginx"}})

    def follows() -> None:
        now = space.child("ingresses")
        assert "annotations" not in now["metadata"]
        assert "tls" not in now["spec"]
        assert space.view().status["url"] == "http://fraud.example.com"

    space.eventually(follows)
    space.apply()

    def gone() -> None:
        assert not space.of("ingresses")
        assert space.view().status["url"] == f"http://{MODEL}.{space.namespace}.svc"

    space.eventually(gone)


def test_grpc_has_a_port_of_its_own(operator: OperatorProcess, space: Space) -> None:
    space.settle(runtime={"grpc": True, "batching": {"maxBatchSize": 8}})
    (_, port) = space.child("services")["spec"]["ports"]
    assert (port["name"], port["port"]) == ("grpc", 9000)
    assert port["appProtocol"] == "kubernetes.io/h2c"
    (rule,) = space.child("networkpolicies")["spec"]["ingress"]
    assert [item["port"] for item in rule["ports"]] == [8080, 9000]
    space.apply()

    def closed() -> None:
        assert [port["name"] for port in space.child("services")["spec"]["ports"]] == ["http"]

    space.eventually(closed)


def test_a_grpc_route_is_made_once_and_goes_with_its_host_names(
    operator: OperatorProcess, api: Api, space: Space, audit: AuditLog
) -> None:
    define(api, "httproutes")
    define(api, "grpcroutes")
    space.settle(route=GRPC, runtime={"grpc": True})
    made = space.child("grpcroutes")
    assert made["spec"]["hostnames"] == ["grpc.example.com"]
    (reference,) = made["spec"]["rules"][0]["backendRefs"]
    assert (reference["name"], reference["port"]) == (MODEL, 9000)
    # The API server's defaults are no difference.
    mark = audit.mark()
    patch = {"metadata": {"annotations": {"tests": "look again"}}}
    space.api.patch("grpcroutes", space.namespace, MODEL, patch)
    space.apply(route=ROUTE, runtime={"grpc": True})

    def gone() -> None:
        assert not space.of("grpcroutes")

    space.eventually(gone)
    written = [
        w.verb
        for w in audit.writes(mark, operator.credential)
        if (w.namespace, w.resource) == (space.namespace, "grpcroutes")
    ]
    assert written == ["delete"]
    for plural in ("grpcroutes", "httproutes"):
        undefine(api, f"{plural}.gateway.networking.k8s.io")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"route": {"hostnames": ["a.example"]}}, "set gateway or ingress, not both"),
        (
            {"route": {**ROUTE, "ingress": {}}},
            "set gateway or ingress, not both",
        ),
        ({"route": {**ROUTE, "hostnames": ["*.example.com"]}}, "spec.route.hostnames"),
        ({"route": {**ROUTE, "hostnames": []}}, "spec.route.hostnames"),
        ({"route": GRPC}, "set runtime.grpc to true"),
        (
            {"route": {**GRPC, "hostnames": ["grpc.example.com"]}, "runtime": {"grpc": True}},
            "names of their own",
        ),
        ({"autoscaling": {"minReplicas": 0, "maxReplicas": 2}}, "minReplicas 0 needs triggers"),
        ({"autoscaling": {"maxReplicas": 2, "targetCpuUtilization": 0}}, "there is no target"),
        (
            {
                "autoscaling": {
                    "maxReplicas": 2,
                    "triggers": [TRIGGER],
                    "podMetrics": [{"name": "queue", "averageValue": 1}],
                }
            },
            "use a trigger of type prometheus instead of podMetrics",
        ),
    ],
    ids=[
        "no way",
        "two ways",
        "wildcard",
        "no host",
        "no grpc",
        "one host",
        "zero",
        "no target",
        "two adapters",
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_way_to_mend_it(
    spec: Json, told: str, installation: Installation, space: Space
) -> None:
    with pytest.raises(ApiError, match=told):
        space.apply(**spec)


@pytest.mark.parametrize(
    ("account", "name", "allowed"),
    [
        ("integrated", "scaledobjects.keda.sh", "yes"),
        ("integrated", "certificates.cert-manager.io", "no"),
        ("slipway", "scaledobjects.keda.sh", "no"),
    ],
)
def test_only_the_definitions_of_enabled_kinds_can_be_watched(
    account: str, name: str, allowed: str, cluster: Cluster, integrated: Installation
) -> None:
    said = cluster.kubectl(
        "auth",
        "can-i",
        "watch",
        f"customresourcedefinitions.apiextensions.k8s.io/{name}",
        f"--as=system:serviceaccount:slipway-system:{account}",
        check=False,
    )
    assert said.stdout.strip() == allowed


EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_api_server_takes_every_example(
    path: Path, installation: Installation, space: Space
) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] == "ModelDeployment":
            query = {"dryRun": "All", "fieldValidation": "Strict"}
            where = f"/apis/slipway.dev/v1alpha1/namespaces/{space.namespace}/modeldeployments"
            assert space.api.request("POST", where, query, document)
