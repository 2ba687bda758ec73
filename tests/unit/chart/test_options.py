"""What can be switched on and off."""

import re

import pytest


def kinds(objects):
    return {item["kind"] for item in objects}


def test_the_crd_is_installed_and_stays_after_an_uninstall(render, pick):
    crd = pick(render(), "CustomResourceDefinition")
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_crd_goes_with_the_release_when_asked_to(render, pick):
    crd = pick(render({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert "annotations" not in crd["metadata"]


def test_the_crd_may_be_left_to_an_administrator(render):
    assert "CustomResourceDefinition" not in kinds(render({"crds": {"install": False}}))


def test_a_disruption_budget_exists_only_where_another_replica_can_take_over(render, pick):
    assert "PodDisruptionBudget" not in kinds(render())
    budget = pick(render({"replicas": 2}), "PodDisruptionBudget")["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_a_service_monitor_exists_only_when_asked_for(render, pick):
    assert "ServiceMonitor" not in kinds(render())
    monitor = pick(render(ci="ha"), "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_a_service_monitor_without_a_service_is_refused(render):
    metrics = {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}
    with pytest.raises(ValueError, match=re.escape("set metrics.service.enabled=true")):
        render({"metrics": metrics})


def test_a_network_policy_admits_only_the_http_port_and_leaves_egress_alone(render, pick):
    assert "NetworkPolicy" not in kinds(render())
    policy = pick(render({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]


def test_egress_is_limited_once_rules_are_given(render, pick):
    policy = pick(render(ci="namespaced"), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 2},
        {"pools": {"cpu": {"provider": []}}},
        {"pools": {"cpu": {"preferredProviders": ["openvino"]}}},
        {"pools": {"gpu": {"preferredProviders": ["CPUExecutionProvider"]}}},
        {"pools": {"cpu": {"flavour": "tpu"}}},
        {"pools": {"CPU": {}}},
        {"image": {"digest": "sha256:short"}},
        {"image": {"repository": "slipway-operator:0.1.0"}},
        {"registry": "https://registry.example.com/ml"},
        {"registry": "registry.example.com/ml/slipway-operator:0.1.0"},
        {"controller": {"logFormat": "xml"}},
        {"pools": {"cpu": {"resources": {"limits": {"memory": "1 GB"}}}}},
        {"pools": {"cpu": {"resources": {"limits": {"cpu": -1}}}}},
        {"pools": {"cpu": {"cacheSize": "512m"}}},
        {"pools": {"gpu": {"sharedMemory": 0}}},
        {"pools": {"cpu": {"startupTimeoutSeconds": 5}}},
        {"modelNetworkPolicy": {"egressCidrs": ["10.0.0.1"]}},
        {"watch": {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}},
        {
            "watch": {
                "selector": {
                    "matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]
                }
            }
        },
    ],
)
def test_a_mistyped_value_is_refused(render, values):
    with pytest.raises(ValueError, match="don't meet the specifications of the schema"):
        render(values)


@pytest.mark.parametrize(
    ("registry", "image"),
    [
        ("registry.example.com/ml/", "registry.example.com/ml/slipway-operator:1"),
        ("registry:5000", "registry:5000/slipway-operator:1"),
        ("[::1]:5000/ml", "[::1]:5000/ml/slipway-operator:1"),
    ],
)
def test_a_registry_may_have_a_port_and_a_path(render, pick, registry, image):
    deployment = pick(render({"registry": registry, "image": {"tag": "1"}}), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"controller": {"leaderElection": {"renewDeadlineSeconds": 9}}},
            "retryPeriodSeconds must be below renewDeadlineSeconds, and that below",
        ),
        (
            {"pools": {"gpu": {"preferredProviders": ["CUDAExecutionProvider"]}}},
            "pools.gpu: CUDAExecutionProvider is both in providers and in preferredProviders",
        ),
        (
            {"pools": {"cpu": {"rollout": {"maxSurge": "0%"}}}},
            "pools.cpu.rollout: maxSurge and maxUnavailable are both 0",
        ),
        (
            {"pools": {"gpu": {"rollout": {"maxUnavailable": None}}}},
            "pools.gpu.rollout: maxSurge and maxUnavailable are both 0",
        ),
        (
            {"pools": {"cpu": {"rollout": {"minReadySeconds": 600}}}},
            "pools.cpu.rollout: progressDeadlineSeconds must be above minReadySeconds",
        ),
        (
            {"podLabels": {"app.kubernetes.io/instance": "mine"}},
            "app.kubernetes.io/instance is the chart's own",
        ),
        ({"fullnameOverride": "1st"}, "begins with no letter"),
    ],
)
def test_values_that_do_not_go_together_are_refused_with_a_sentence(render, values, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        render(values)


def test_a_label_of_the_pods_may_replace_one_of_the_charts(render_text, render, pick):
    values = {"podLabels": {"app.kubernetes.io/version": "mine", "team": "ml"}}
    labels = pick(render(values), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/version"], labels["team"]) == ("mine", "ml")
    assert render_text(values).count("app.kubernetes.io/version: mine") == 1


def test_every_object_has_the_recommended_labels(render):
    for item in render(ci="ha"):
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "slipway", item["kind"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm", item["kind"]
