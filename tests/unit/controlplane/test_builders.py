"""The children: what every pod must have, and golden manifests to read in a review.

``UPDATE_GOLDEN=1 pytest tests/unit/controlplane/test_builders.py`` writes the manifests anew.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_cluster import samples
from hypothesis import given
from hypothesis import strategies as st

from slipway_operator.api import names
from slipway_operator.api.settings import Pool, PullSecret, Settings
from slipway_operator.build.hpa import horizontal_pod_autoscaler
from slipway_operator.build.labels import selector
from slipway_operator.build.pdb import pod_disruption_budget
from slipway_operator.build.pod import encrypts, pod_template
from slipway_operator.build.resolve import (
    RejectedSpecError,
    resolve_pool,
    resolve_rollout,
    resolve_serving,
)
from slipway_operator.build.revision import Revision, controller_revision, render
from slipway_operator.build.service import service, url
from slipway_operator.build.whole import Whole
from slipway_operator.reconcile.children import wanted_children
from slipway_operator.reconcile.kinds import OPTIONAL
from slipway_operator.reconcile.observation import Observation

Json = dict[str, Any]
GOLDEN = Path(__file__).parent / "golden"

STORAGE = {
    "secretName": "reader",
    "endpoint": "https://s3.example.com",
    "region": "eu-west-1",
    "addressingStyle": "path",
    "caBundle": {"configMapName": "corp-ca", "key": "bundle.pem"},
}
EVERYTHING: Json = {
    "model": {"uri": "s3://models/fraud.onnx", "digest": samples.A, "storage": STORAGE},
    "pool": "gpu",
    "replicas": 2,
    "autoscaling": {
        "minReplicas": 2,
        "maxReplicas": 8,
        "targetCpuUtilization": 60,
        "targetMemoryUtilization": 80,
        "podMetrics": [{"name": "nv_inference_pending_request_count", "averageValue": "1500m"}],
    },
    "runtime": {
        "image": "registry.example/own:3",
        "providers": ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
        "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}},
        "threads": {"intraOp": 4, "interOp": 2},
        "cacheSize": "8Gi",
        "env": [{"name": "TZ", "value": "UTC"}],
    },
    "rollout": {
        "maxSurge": "25%",
        "maxUnavailable": 1,
        "minReadySeconds": 5,
        "progressDeadlineSeconds": 900,
    },
    "networkPolicy": {"egressCidrs": ["10.0.0.0/8", "fd00::/8"]},
    "template": {
        "labels": {"team": "risk"},
        "annotations": {"note": "for review"},
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 2,
                "topologyKey": "rack",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"slipway.dev/model": "fraud"}},
            }
        ],
        "serviceAccountName": "reader",
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
        "terminationGracePeriodSeconds": 90,
    },
}
CASES: dict[str, Json] = {
    "minimal": {},
    "gpu": {"pool": "gpu"},
    "anonymous": {
        "model": {
            "uri": "s3://public/fraud.onnx",
            "digest": samples.A,
            "storage": {"anonymous": True},
        }
    },
    "preferred": {"pool": "gpu", "runtime": {"preferredProviders": ["TensorrtExecutionProvider"]}},
    "claim": {"model": {"uri": "pvc://models/fraud/slipway.json", "digest": samples.A}},
    "everything": EVERYTHING,
    "runtime": {
        "runtime": {
            "providerOptions": {
                "CPUExecutionProvider": {"arena_extend_strategy": "kSameAsRequested"}
            },
            "threads": {"intraOp": 2, "executor": 2},
            "batching": {"maxBatchSize": 16, "maxDelayMs": 2},
            "queueSize": 64,
            "requestTimeoutMs": 1500,
            "maxRequestSize": "8Mi",
            "nonFinite": "null",
            "aliases": ["fraud-eu", "fraud.v2"],
            "grpc": True,
            "accessLog": True,
            "logLevel": "WARNING",
            "connections": {"max": 512, "keepAliveSeconds": 650},
            "sharedMemory": "512Mi",
        }
    },
    "keda-and-gateway": {
        "autoscaling": {
            "minReplicas": 0,
            "maxReplicas": 6,
            "targetMemoryUtilization": 80,
            "triggers": [
                {
                    "type": "prometheus",
                    "name": "queue",
                    "metadata": {
                        "serverAddress": "http://prometheus.monitoring:9090",
                        "query": "sum(nv_inference_pending_request_count{model='fraud'})",
                        "threshold": "4",
                    },
                    "metricType": "AverageValue",
                    "authenticationRef": {"name": "prometheus"},
                }
            ],
            "pollingIntervalSeconds": 5,
            "cooldownSeconds": 600,
        },
        "route": {
            "hostnames": ["models.example.com", "models.example.org"],
            "path": "/fraud",
            "gateway": {
                "parentRefs": [
                    {"name": "public", "namespace": "gateways", "sectionName": "https"},
                    {"name": "public", "namespace": "gateways", "port": 8443},
                ],
                "grpcHostnames": ["fraud.grpc.example.com"],
            },
        },
        "monitoring": {"enabled": True},
    },
    "ingress": {
        "route": {
            "hostnames": ["fraud.example.com"],
            "ingress": {
                "className": "nginx",
                "tlsSecretName": "fraud-tls",
                "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"},
            },
        }
    },
    "encrypted": {
        "runtime": {
            "tls": {"secretName": "fraud-serving"},
            "bearerTokens": {"secretName": "clients"},
            "grpc": True,
        },
        "route": {"hostnames": ["fraud.example.com"], "ingress": {}},
    },
}


class Plain(yaml.SafeDumper):
    """Writes out what is there twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


Plain.add_representer(Whole, yaml.SafeDumper.represent_dict)


def children(settings: Settings | None = None, **changes: Any) -> dict[str, Json]:
    """The children of a new ModelDeployment, by kind."""
    model = samples.model(**changes)
    settings = settings or samples.settings()
    pool = resolve_pool(model.spec, settings)
    revision = Revision.parse(controller_revision(model, render(model, pool), 1))
    rollout = resolve_rollout(model.spec, pool)
    served = frozenset(kind.name for kind in OPTIONAL)
    observed, encrypted = Observation(model, served=served), encrypts(revision.template)
    wanted = wanted_children(observed, revision, rollout, settings, encrypted=encrypted)
    return {child["kind"]: child for child in wanted}


def pod(settings: Settings | None = None, **changes: Any) -> Json:
    return children(settings, **changes)["Deployment"]["spec"]["template"]


def container(name: str, settings: Settings | None = None, **changes: Any) -> Json:
    spec = pod(settings, **changes)["spec"]
    (found,) = (c for c in (*spec["initContainers"], *spec["containers"]) if c["name"] == name)
    return found


def environment(of: Json) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in of["env"]}


@pytest.mark.parametrize("case", CASES)
def test_the_children_are_what_was_reviewed(case):
    built = children(**CASES[case]).values()
    text = yaml.dump_all(built, Dumper=Plain, sort_keys=False, width=100)
    file = GOLDEN / f"{case}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), "built otherwise: set UPDATE_GOLDEN=1, read the difference"


@pytest.mark.parametrize("case", CASES)
class TestEveryPod:
    def test_is_what_the_restricted_profile_of_pod_security_asks_for(self, case):
        spec = pod(**CASES[case])["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in (*spec["initContainers"], *spec["containers"]):
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        assert {next(iter(v.keys() - {"name"})) for v in spec["volumes"]} <= {
            "emptyDir",
            "configMap",
            "secret",
            "persistentVolumeClaim",
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()

    def test_has_no_token_of_the_api_server(self, case):
        assert pod(**CASES[case])["spec"]["automountServiceAccountToken"] is False

    def test_bears_the_digest_wherever_people_look_for_it(self, case):
        template = pod(**CASES[case])
        assert template["metadata"]["annotations"][names.ANNOTATION_DIGEST] == samples.A
        assert template["metadata"]["labels"][names.LABEL_DIGEST] == "a" * 12
        for name in ("fetch", "serve"):
            arguments = container(name, **CASES[case])["args"]
            assert arguments[arguments.index("--digest") + 1] == samples.A

    def test_asks_the_runtime_whether_the_model_is_loaded_and_warm(self, case):
        serve = container("serve", **CASES[case])
        ready = {"path": "/v2/health/ready", "port": "http"}
        assert serve["startupProbe"]["httpGet"] == serve["readinessProbe"]["httpGet"] == ready
        assert serve["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": "http"}

    def test_may_load_as_long_as_a_rollout_may_and_has_a_minute_to_answer_that_it_lives(self, case):
        serve = container("serve", **CASES[case])
        start, live = serve["startupProbe"], serve["livenessProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] == 600
        assert live["periodSeconds"] * live["failureThreshold"] == 60

    def test_leaves_its_words_in_the_termination_log(self, case):
        for name in ("fetch", "serve"):
            one = container(name, **CASES[case])
            assert one["terminationMessagePath"] == "/dev/termination-log"
            assert one["terminationMessagePolicy"] == "File"

    def test_lets_serve_only_read_the_artifacts(self, case):
        fetch, serve = (
            container(name, **CASES[case])["volumeMounts"] for name in ("fetch", "serve")
        )
        (written,) = (mount for mount in fetch if mount["name"] == "cache")
        read, *engines = (mount for mount in serve if mount["name"] == "cache")
        assert written == {"name": "cache", "mountPath": "/var/cache/slipway"}
        assert read == written | {"readOnly": True}
        assert [mount["subPath"] for mount in engines] in ([], ["engines"])

    def test_gives_the_cloud_role_to_fetch_alone(self, case):
        annotations = pod(**CASES[case])["metadata"]["annotations"]
        assert annotations["eks.amazonaws.com/skip-containers"] == "serve"

    def test_drains_before_it_is_killed(self, case):
        spec = pod(**CASES[case])["spec"]
        told = environment(container("serve", **CASES[case]))
        drain = sum(
            int(told[name])
            for name in ("SLIPWAY_DRAIN_DELAY_SECONDS", "SLIPWAY_DRAIN_TIMEOUT_SECONDS")
        )
        assert spec["terminationGracePeriodSeconds"] > drain


@pytest.mark.parametrize(
    ("resources", "requests", "limits"),
    [
        ({}, {"cpu": "100m", "memory": "128Mi"}, {"memory": "512Mi"}),
        (
            {"requests": {"cpu": "50m", "memory": "64Mi"}},
            {"cpu": "50m", "memory": "64Mi"},
            {"memory": "512Mi"},
        ),
        (
            {"limits": {"cpu": "0.05", "memory": "1Gi"}},
            {"cpu": "0.05", "memory": "128Mi"},
            {"cpu": "0.05", "memory": "512Mi"},
        ),
        (
            {"requests": {"cpu": 2}, "limits": {"cpu": 4, "nvidia.com/gpu": 1}},
            {"cpu": "100m", "memory": "128Mi"},
            {"cpu": 4, "memory": "512Mi"},
        ),
    ],
    ids=str,
)
def test_fetch_asks_for_no_more_than_serve_and_has_its_cpu_limit(resources, requests, limits):
    spec = samples.parsed_spec(runtime={"resources": resources})
    (fetch,) = pod_template("fraud", spec, Pool(image="x"))["spec"]["initContainers"]
    assert fetch["resources"] == {"requests": requests, "limits": limits}


class TestCredentials:
    def test_are_references_that_only_fetch_has(self):
        fetch = environment(container("fetch", **EVERYTHING))
        assert fetch["AWS_ACCESS_KEY_ID"] == {
            "secretKeyRef": {"name": "reader", "key": "AWS_ACCESS_KEY_ID"}
        }
        assert fetch["AWS_SECRET_ACCESS_KEY"] == {
            "secretKeyRef": {"name": "reader", "key": "AWS_SECRET_ACCESS_KEY"}
        }
        assert fetch["AWS_SESSION_TOKEN"]["secretKeyRef"]["optional"] is True
        serve = container("serve", **EVERYTHING)
        assert "reader" not in yaml.safe_dump(serve)
        assert not [name for name in environment(serve) if name.startswith("AWS_")]

    def test_are_absent_where_no_secret_is_named(self):
        assert not [name for name in environment(container("fetch")) if name.startswith("AWS_")]

    def test_of_the_storage_go_with_where_it_is(self):
        told = environment(container("fetch", **EVERYTHING))
        assert told["AWS_ENDPOINT_URL"] == "https://s3.example.com"
        assert told["AWS_REGION"] == "eu-west-1"
        assert told["SLIPWAY_S3_ADDRESSING_STYLE"] == "path"
        assert told["SLIPWAY_CA_BUNDLE"] == "/etc/slipway/ca/ca.crt"

    def test_are_not_wanted_of_an_anonymous_reader(self):
        told = environment(container("fetch", **CASES["anonymous"]))
        assert told["SLIPWAY_S3_ANONYMOUS"] == "true"
        assert not [name for name in told if name.startswith("AWS_")]


class TestAClaim:
    def test_is_mounted_read_only_and_into_fetch_alone(self):
        spec = pod(**CASES["claim"])["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert volumes["claim"]["persistentVolumeClaim"] == {
            "claimName": "models",
            "readOnly": True,
        }
        fetch, serve = container("fetch", **CASES["claim"]), container("serve", **CASES["claim"])
        mount = {"name": "claim", "mountPath": "/var/lib/slipway/claim", "readOnly": True}
        assert mount in fetch["volumeMounts"]
        assert "claim" not in {each["name"] for each in serve["volumeMounts"]}
        assert environment(fetch)["SLIPWAY_CLAIM_DIR"] == mount["mountPath"]
        assert "SLIPWAY_CLAIM_DIR" not in environment(serve)

    def test_is_no_part_of_a_pod_whose_artifact_lies_elsewhere(self):
        assert "claim" not in yaml.safe_dump(pod(**EVERYTHING)["spec"]["volumes"])
        assert "SLIPWAY_CLAIM_DIR" not in environment(container("fetch", **EVERYTHING))


LABELS = st.dictionaries(
    st.sampled_from(
        [
            names.LABEL_MANAGED_BY,
            names.LABEL_MODEL,
            names.LABEL_REVISION,
            names.LABEL_DIGEST,
            names.LABEL_POOL,
            "team",
        ]
    ),
    st.just("mine"),
)
ANNOTATIONS = st.dictionaries(
    st.sampled_from(
        [
            names.ANNOTATION_DIGEST,
            names.ANNOTATION_URI,
            "eks.amazonaws.com/skip-containers",
            "note",
        ]
    ),
    st.just("mine"),
)


@given(LABELS, ANNOTATIONS)
def test_users_can_add_labels_and_annotations_and_replace_none(labels, annotations):
    plain = pod()["metadata"]
    theirs = pod(template={"labels": labels, "annotations": annotations})["metadata"]
    for part in ("labels", "annotations"):
        for key, value in plain[part].items():
            if key != names.LABEL_REVISION:
                assert theirs[part][key] == value
            else:
                assert theirs[part][key] != "mine"
    if "team" in labels:
        assert theirs["labels"]["team"] == "mine"


def test_users_can_add_variables_and_replace_none():
    env = [{"name": "SLIPWAY_PROVIDERS", "value": "none"}, {"name": "TZ", "value": "UTC"}]
    told = environment(container("serve", runtime={"env": env}))
    assert (told["SLIPWAY_PROVIDERS"], told["TZ"]) == ("CPUExecutionProvider", "UTC")


class TestThePoolFillsIn:
    def test_what_the_spec_leaves_out(self):
        spec = pod(pool="gpu")["spec"]
        assert spec["nodeSelector"] == {"slipway.dev/pool": "gpu"}
        assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
        serve = container("serve", pool="gpu")
        assert serve["image"] == "registry.example/slipway-runtime-gpu:1.0"
        assert serve["resources"] == {"limits": {"nvidia.com/gpu": 1}}
        assert environment(serve)["SLIPWAY_PROVIDERS"] == "CUDAExecutionProvider"

    def test_and_gives_way_to_the_spec_key_by_key(self):
        serving = resolve_serving(
            samples.parsed_spec(**EVERYTHING), samples.settings().pools["gpu"]
        )
        assert serving.image == "registry.example/own:3"
        assert serving.providers == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
        assert serving.resources == {
            "requests": {"cpu": "500m"},
            "limits": {"nvidia.com/gpu": 1, "memory": "2Gi"},
        }
        assert serving.node_selector == {"slipway.dev/pool": "gpu", "zone": "a"}
        assert [t["key"] for t in serving.tolerations] == ["nvidia.com/gpu", "dedicated"]
        assert serving.termination_grace_seconds == 90

    def test_secrets_for_pulling_the_image_which_are_joined(self):
        pool = (
            samples.settings()
            .pools["cpu"]
            .model_copy(
                update={"image_pull_secrets": [PullSecret(name="mirror"), PullSecret(name="pull")]}
            )
        )
        plain = resolve_serving(samples.parsed_spec(), pool)
        assert plain.image_pull_secrets == [{"name": "mirror"}, {"name": "pull"}]
        with_own = resolve_serving(samples.parsed_spec(**EVERYTHING), pool)
        assert with_own.image_pull_secrets == [{"name": "mirror"}, {"name": "pull"}]

    def test_the_rollout_too(self):
        rollout = resolve_rollout(
            samples.parsed_spec(rollout={"minReadySeconds": 7}), samples.settings().pools["gpu"]
        )
        assert (rollout.max_surge, rollout.max_unavailable) == (0, 1)
        assert (rollout.min_ready_seconds, rollout.progress_deadline_seconds) == (7, 600)

    def test_a_runtime_class_and_another_threads_setting_reach_the_pod(self):
        settings = samples.changed_pool(runtimeClassName="nvidia")
        assert pod(settings)["spec"]["runtimeClassName"] == "nvidia"
        told = environment(container("serve", runtime={"threads": {"intraOp": 3}}))
        assert told["SLIPWAY_INTRA_OP_THREADS"] == "3"
        assert "SLIPWAY_INTER_OP_THREADS" not in told


class TestMergedRolloutsThatCannotBe:
    @pytest.mark.parametrize(
        ("surge", "unavailable"), list(itertools.product([0, "0", "0%", "00%"], repeat=2))
    )
    def test_none_may_come_and_none_may_go(self, surge, unavailable):
        spec = samples.parsed_spec(rollout={"maxSurge": surge, "maxUnavailable": unavailable})
        with pytest.raises(RejectedSpecError, match=r"set spec\.rollout\.maxSurge") as caught:
            resolve_rollout(spec, samples.settings().pools["cpu"])
        assert caught.value.reason == "InvalidRollout"

    def test_none_may_come_by_the_pool_and_none_may_go_by_the_spec(self):
        spec = samples.parsed_spec(rollout={"maxUnavailable": 0})
        with pytest.raises(RejectedSpecError):
            resolve_rollout(spec, samples.settings().pools["gpu"])

    @pytest.mark.parametrize(("deadline", "ready"), [(10, 10), (10, 11), (1, 600)])
    def test_a_deadline_that_no_pod_can_meet(self, deadline, ready):
        spec = samples.parsed_spec(
            rollout={"progressDeadlineSeconds": deadline, "minReadySeconds": ready}
        )
        with pytest.raises(RejectedSpecError, match=f"must be above minReadySeconds .{ready}."):
            resolve_rollout(spec, samples.settings().pools["cpu"])

    def test_a_pool_that_there_is_not(self):
        with pytest.raises(RejectedSpecError, match="use one of cpu, gpu") as caught:
            resolve_pool(samples.parsed_spec(pool="tpu"), samples.settings())
        assert caught.value.reason == "UnknownPool"


class TestTheBudget:
    @pytest.mark.parametrize(("replicas", "there"), [(0, False), (1, False), (2, True), (9, True)])
    def test_is_there_from_two_pods_on(self, replicas, there):
        assert (pod_disruption_budget(samples.model(replicas=replicas)) is not None) is there

    @pytest.mark.parametrize(("least", "there"), [(1, False), (2, True)])
    def test_goes_by_the_least_number_of_an_autoscaler(self, least, there):
        scaling = {"minReplicas": least, "maxReplicas": 9}
        budget = pod_disruption_budget(samples.model(replicas=5, autoscaling=scaling))
        assert (budget is not None) is there

    def test_lets_pods_that_are_not_ready_go(self):
        budget = pod_disruption_budget(samples.model(replicas=2))
        assert budget is not None
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert budget["spec"]["maxUnavailable"] == 1


class TestTheAutoscaler:
    def test_has_the_bounds_of_the_spec(self):
        found = horizontal_pod_autoscaler(samples.model(**EVERYTHING))
        assert found is not None
        assert found["spec"]["scaleTargetRef"]["name"] == samples.NAME
        assert (found["spec"]["minReplicas"], found["spec"]["maxReplicas"]) == (2, 8)

    def test_is_not_there_unless_asked_for_or_while_scaled_to_zero(self):
        assert horizontal_pod_autoscaler(samples.model()) is None
        scaling = {"minReplicas": 1, "maxReplicas": 2}
        assert horizontal_pod_autoscaler(samples.model(replicas=0, autoscaling=scaling)) is None


def test_every_child_is_owned_and_selected_by_the_same_two_labels():
    built = children(**EVERYTHING)
    assert set(built) == {
        "Deployment",
        "Service",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
    }
    labels = selector(samples.NAME)
    assert len(labels) == 2
    for child in built.values():
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("uid-of-fraud", True)
        assert child["metadata"]["labels"] == labels
    assert built["Deployment"]["spec"]["selector"] == {"matchLabels": labels}
    assert built["Service"]["spec"]["selector"] == labels
    assert labels.items() <= pod(**EVERYTHING)["metadata"]["labels"].items()


def test_the_service_leads_to_the_port_of_the_container():
    (port,) = service(samples.model(), encrypted=False)["spec"]["ports"]
    (exposed,) = container("serve")["ports"]
    assert (port["port"], port["targetPort"]) == (80, exposed["name"])
    assert url(samples.model(), encrypted=False) == "http://fraud.payments.svc"


def test_names_of_the_longest_allowed_length_stay_within_those_of_kubernetes():
    model = samples.model(name="f" * 50)
    rendered = render(model, samples.settings().pools["cpu"])
    assert len(controller_revision(model, rendered, 1)["metadata"]["name"]) <= 63
    for value in rendered.template["metadata"]["labels"].values():
        assert len(value) <= 63


class TestTheNetworkPolicy:
    def policy(self, default: Json | None = None, own: Json | None = None) -> Json | None:
        settings = samples.settings(modelNetworkPolicy=default or {})
        built = children(settings, networkPolicy=own or {})
        return built.get("NetworkPolicy")

    def test_admits_everybody_to_the_port_of_the_model_and_leaves_egress_alone(self):
        policy = self.policy()
        assert policy is not None
        (rule,) = policy["spec"]["ingress"]
        (exposed,) = container("serve")["ports"]
        assert rule == {"ports": [{"port": exposed["containerPort"], "protocol": "TCP"}]}
        assert policy["spec"]["policyTypes"] == ["Ingress"]

    def test_limits_egress_to_the_networks_that_are_given_and_to_name_servers(self):
        policy = self.policy({"egressCidrs": ["10.0.0.0/8"]})
        assert policy is not None
        networks, names = policy["spec"]["egress"]
        assert networks == {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
        assert {(p["port"], p["protocol"]) for p in names["ports"]} == {(53, "UDP"), (53, "TCP")}
        assert "to" not in names

    @pytest.mark.parametrize(
        ("default", "own", "there"),
        [
            ({"enabled": False}, {}, False),
            ({"enabled": False}, {"enabled": True}, True),
            ({}, {"enabled": False}, False),
        ],
    )
    def test_is_switched_by_the_configuration_and_over_it_by_the_spec(self, default, own, there):
        assert (self.policy(default, own) is not None) is there

    def test_of_a_spec_may_lift_the_limits_of_the_configuration(self):
        policy = self.policy({"egressCidrs": ["10.0.0.0/8"]}, {"egressCidrs": []})
        assert policy is not None
        assert policy["spec"]["policyTypes"] == ["Ingress"]


class TestTheSpread:
    def test_is_over_zones_and_hosts_and_keeps_no_pod_waiting(self):
        spread = pod()["spec"]["topologySpreadConstraints"]
        assert [s["topologyKey"] for s in spread] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]
        assert {s["whenUnsatisfiable"] for s in spread} == {"ScheduleAnyway"}
        for one in spread:
            assert one["labelSelector"]["matchLabels"] == selector(samples.NAME)

    def test_of_the_spec_replaces_it_and_an_empty_one_removes_it(self):
        own = EVERYTHING["template"]["topologySpreadConstraints"]
        assert pod(**EVERYTHING)["spec"]["topologySpreadConstraints"] == own
        without = pod(template={"topologySpreadConstraints": []})["spec"]
        assert "topologySpreadConstraints" not in without


class TestTheTargetsOfAutoscaling:
    def names(self, **scaling: Any) -> list[str]:
        built = horizontal_pod_autoscaler(samples.model(autoscaling={"maxReplicas": 3, **scaling}))
        assert built is not None
        return [
            metric["resource"]["name"] if "resource" in metric else metric["pods"]["metric"]["name"]
            for metric in built["spec"]["metrics"]
        ]

    def test_are_processor_use_alone_unless_more_is_asked_for(self):
        assert self.names() == ["cpu"]

    def test_are_added_to_it(self):
        queue = {"name": "queue", "averageValue": 2}
        assert self.names(targetMemoryUtilization=80, podMetrics=[queue]) == [
            "cpu",
            "memory",
            "queue",
        ]
