"""The operator may do what it does, and nothing else."""

import pytest

READ = {"get", "list", "watch"}
NEEDED = {
    ("slipway.dev", "modeldeployments"): READ,
    ("slipway.dev", "modeldeployments/status"): {"get", "patch"},
    ("slipway.dev", "modeldeployments/finalizers"): {"update"},
    ("apps", "deployments"): READ | {"create", "patch"},
    ("apps", "replicasets"): READ,
    ("apps", "controllerrevisions"): READ | {"create", "patch", "delete"},
    ("", "pods"): READ | {"delete"},
    ("", "services"): READ | {"create", "patch"},
    ("autoscaling", "horizontalpodautoscalers"): READ | {"create", "patch", "delete"},
    ("policy", "poddisruptionbudgets"): READ | {"create", "patch", "delete"},
    ("networking.k8s.io", "networkpolicies"): READ | {"create", "patch", "delete"},
    ("", "events"): {"list", "create"},
}


def granted(role):
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_a_cluster_wide_operator_has_exactly_the_rights_that_it_uses(render, pick):
    assert granted(pick(render(), "ClusterRole", name="slipway")) == NEEDED


def test_the_logs_of_pods_are_read_only_where_progress_in_bytes_is_asked_for(render, pick):
    role = pick(render({"controller": {"fetchProgress": True}}), "ClusterRole", name="slipway")
    assert granted(role) == {**NEEDED, ("", "pods/log"): {"get"}}


def test_a_namespaced_operator_has_the_same_rights_in_its_namespaces_and_no_cluster_role(render):
    objects = render(ci="namespaced")
    assert not [item for item in objects if item["kind"].startswith("ClusterRole")]
    roles = {
        item["metadata"]["namespace"]: granted(item)
        for item in objects
        if item["kind"] == "Role" and item["metadata"]["name"] == "slipway"
    }
    assert roles == {"team-a": NEEDED, "team-b": NEEDED}


ALL = READ | {"create", "patch", "delete"}
OPTIONAL = {
    "podMonitor": ("monitoring.coreos.com", ["podmonitors"]),
    "keda": ("keda.sh", ["scaledobjects"]),
    "gateway": ("gateway.networking.k8s.io", ["httproutes", "grpcroutes"]),
    "ingress": ("networking.k8s.io", ["ingresses"]),
}
DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_integration_brings_the_right_to_its_own_kind_and_no_other(render, pick, name):
    objects = render({"integrations": {name: {"enabled": True}}})
    role = pick(objects, "ClusterRole", name="slipway")
    group, plurals = OPTIONAL[name]
    more = {(group, plural): ALL for plural in plurals}
    if name != "ingress":
        more[DEFINITIONS] = {"list", "watch"}
    assert granted(role) == NEEDED | more
    named = [rule["resourceNames"] for rule in role["rules"] if "resourceNames" in rule]
    assert named == ([] if name == "ingress" else [[f"{plural}.{group}" for plural in plurals]])


def test_an_integration_of_a_namespaced_operator_brings_nothing_of_the_cluster(render):
    on = {name: {"enabled": True} for name in OPTIONAL}
    objects = render({"integrations": on}, ci="namespaced")
    assert not [item for item in objects if item["kind"].startswith("ClusterRole")]
    (role, _) = (
        item for item in objects if item["kind"] == "Role" and item["metadata"]["name"] == "slipway"
    )
    kinds = [(group, plural) for group, plurals in OPTIONAL.values() for plural in plurals]
    assert granted(role) == NEEDED | dict.fromkeys(kinds, ALL)


def test_each_namespace_binds_the_operator_of_the_release_namespace(render):
    bindings = [
        item
        for item in render(ci="namespaced")
        if item["kind"] == "RoleBinding" and item["metadata"]["name"] == "slipway"
    ]
    assert [item["metadata"]["namespace"] for item in bindings] == ["team-a", "team-b"]
    for binding in bindings:
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "slipway", "namespace": "slipway-system"}
        ]


def test_only_the_operators_own_lease_can_be_changed(render, pick):
    rules = pick(render(), "Role", name="slipway-leader")["rules"]
    unnamed = [rule for rule in rules if not rule.get("resourceNames")]
    assert [rule["verbs"] for rule in unnamed] == [["create"]]
    (named,) = (rule for rule in rules if rule.get("resourceNames"))
    assert (named["resourceNames"], named["verbs"]) == (["slipway"], ["get", "update"])


@pytest.mark.parametrize("ci", ["default", "namespaced", "ha", "gpu", "integrations"])
def test_no_role_has_a_wildcard_or_touches_secrets(render, ci):
    for role in render(ci=ci):
        for rule in role.get("rules", []):
            everything = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "*" not in everything
            assert "secrets" not in everything


def test_users_get_model_deployments_with_the_clusters_own_roles(render, pick):
    objects = render()
    view = pick(objects, "ClusterRole", name="slipway-view")
    edit = pick(objects, "ClusterRole", name="slipway-edit")
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert "rbac.authorization.k8s.io/aggregate-to-view" not in edit["metadata"]["labels"]
    assert granted(view)["slipway.dev", "modeldeployments"] == READ
    assert ("slipway.dev", "modeldeployments/status") not in granted(edit)


def test_rights_can_be_left_to_somebody_else(render):
    objects = render({"rbac": {"create": False, "aggregateToUserRoles": False}})
    assert not [item for item in objects if "Role" in item["kind"]]
