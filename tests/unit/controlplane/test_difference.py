"""Whether a live object is as we would apply it, told without asking the API server."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

import pytest
from fake_cluster import samples
from fake_cluster.world import World
from hypothesis import given
from hypothesis import strategies as st

from slipway_operator.api.names import FIELD_MANAGER
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.decide import decide
from slipway_operator.reconcile.difference import (
    needs_apply,
    owned_by_others,
    quantity,
    taken_over,
)

Json = dict[str, Any]
BINARY = {"": 0, "Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5}
DECIMAL = {"m": -1, "": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5}

NUMBERS = st.integers(0, 10**6)


class TestQuantities:
    @given(
        st.integers(0, 10**6), st.sampled_from(sorted(DECIMAL)), st.sampled_from(sorted(DECIMAL))
    )
    def test_that_are_equal_are_equal_in_every_decimal_notation(self, number, one, other):
        steps = DECIMAL[one] - DECIMAL[other]
        if steps >= 0:
            assert quantity(f"{number}{one}") == quantity(f"{number * 1000**steps}{other}")

    @given(NUMBERS, st.sampled_from(sorted(BINARY)), st.sampled_from(sorted(BINARY)))
    def test_that_are_equal_are_equal_in_every_binary_notation(self, number, one, other):
        steps = BINARY[one] - BINARY[other]
        if steps >= 0:
            assert quantity(f"{number}{one}") == quantity(f"{number * 1024**steps}{other}")

    @given(st.integers(0, 10**9), st.integers(0, 10**9))
    def test_that_differ_differ(self, one, other):
        assert (quantity(f"{one}m") == quantity(f"{other}m")) is (one == other)

    @pytest.mark.parametrize(
        ("written", "stored"),
        [
            ("1000m", "1"),
            (1, "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("0.0001", "100u"),
            ("0.0000000001", "1n"),
            ("1e3", "1k"),
            ("1E3", "1k"),
            ("12E", "12000P"),
            ("8Ei", "8192Pi"),
        ],
    )
    def test_come_back_from_the_api_server_in_its_own_notation(self, written, stored):
        assert quantity(written) == quantity(stored)

    def test_of_any_notation_that_the_crd_lets_through_can_be_read(self):
        for suffix in ("m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"):
            assert quantity(f"1{suffix}") > 0
        assert quantity("1Ki") == Decimal(1024)


def wanted() -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"labels": {"one": "1"}},
        "spec": {
            "paused": False,
            "replicas": 2,
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "serve",
                            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
                            "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}},
                            "args": ["one", "two"],
                            "volumeMounts": [
                                {"name": "cache", "mountPath": "/a", "readOnly": True},
                                {"name": "cache", "mountPath": "/b", "subPath": "b"},
                            ],
                        }
                    ],
                    "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1024Mi"}}],
                    "tolerations": [{"key": "a", "operator": "Exists"}],
                }
            },
        },
    }


def stored() -> Json:
    """As the API server gives ``wanted`` back."""
    live = copy.deepcopy(wanted())
    del live["apiVersion"], live["kind"], live["spec"]["paused"]
    live["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    live["spec"]["progressDeadlineSeconds"] = 600
    spec = live["spec"]["template"]["spec"]
    spec["dnsPolicy"] = "ClusterFirst"
    spec["volumes"][0]["emptyDir"]["sizeLimit"] = "1Gi"
    (serve,) = spec["containers"]
    serve["resources"]["limits"] = {"cpu": "1", "memory": "1Gi"}
    serve["imagePullPolicy"] = "IfNotPresent"
    del serve["env"][1]["value"]
    return live


def serve(obj: Json) -> Json:
    return obj["spec"]["template"]["spec"]["containers"][0]


def test_what_the_api_server_fills_in_is_no_difference():
    assert not needs_apply(wanted(), stored())


CHANGES = {
    "a number": lambda o: o["spec"].update(replicas=3),
    "false that became true": lambda o: o["spec"].update(paused=True),
    "a label changed": lambda o: o["metadata"]["labels"].update(one="2"),
    "a label gone": lambda o: o["metadata"].update(labels={}),
    "all labels gone": lambda o: o["metadata"].pop("labels"),
    "a quantity": lambda o: serve(o)["resources"]["limits"].update(cpu="2"),
    "a quantity gone": lambda o: serve(o)["resources"]["limits"].pop("cpu"),
    "a size": lambda o: o["spec"]["template"]["spec"]["volumes"][0]["emptyDir"].update(
        sizeLimit="2Gi"
    ),
    "a variable changed": lambda o: serve(o)["env"][0].update(value="2"),
    "a variable gone": lambda o: serve(o)["env"].pop(0),
    "an argument more": lambda o: serve(o)["args"].append("three"),
    "arguments in another order": lambda o: serve(o)["args"].reverse(),
    "a mount of a volume that is mounted twice": lambda o: serve(o)["volumeMounts"][0].update(
        readOnly=False
    ),
    "a toleration more": lambda o: o["spec"]["template"]["spec"]["tolerations"].append({}),
    "a container gone": lambda o: o["spec"]["template"]["spec"].update(containers=[]),
    "a whole part gone": lambda o: o["spec"].pop("template"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_we_apply_and_is_otherwise_is_a_difference(change):
    live = stored()
    change(live)
    assert needs_apply(wanted(), live)


ADDITIONS = {
    "a label": lambda o: o["metadata"]["labels"].update(two="2"),
    "an annotation": lambda o: o["metadata"].update(annotations={"a": "b"}),
    "a variable": lambda o: serve(o)["env"].insert(0, {"name": "Z", "value": "1"}),
    "a mount": lambda o: serve(o)["volumeMounts"].insert(0, {"name": "x", "mountPath": "/x"}),
    "a container": lambda o: o["spec"]["template"]["spec"]["containers"].insert(
        0, {"name": "sidecar"}
    ),
    "a field": lambda o: o["spec"]["template"]["spec"].update(hostname="x"),
}


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
def test_what_others_add_is_no_difference(add):
    live = stored()
    add(live)
    assert not needs_apply(wanted(), live)


def entry(manager: str, fields: Json, operation: str = "Apply", **more: str) -> Json:
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


def keyed(name: str) -> str:
    return "k:" + json.dumps({"name": name})


class TestFieldsThatWeOwnAndWantNoMore:
    @pytest.mark.parametrize(
        "fields",
        [
            {"f:spec": {"f:minReadySeconds": {}}},
            {"f:metadata": {"f:labels": {"f:two": {}}}},
            {"f:spec": {"f:template": {"f:spec": {"f:nodeSelector": {}}}}},
            {"f:spec": {"f:template": {"f:spec": {"f:containers": {keyed("old"): {}}}}}},
            {
                "f:spec": {
                    "f:template": {
                        "f:spec": {
                            "f:containers": {keyed("serve"): {"f:env": {keyed("C"): {".": {}}}}}
                        }
                    }
                }
            },
        ],
        ids=["a field", "a label", "a map", "a container", "a variable"],
    )
    def test_are_a_difference(self, fields):
        live = stored()
        live["metadata"]["managedFields"] = [entry(FIELD_MANAGER, fields)]
        assert needs_apply(wanted(), live)
        live["metadata"]["managedFields"] = [entry("kubectl", fields)]
        assert not needs_apply(wanted(), live)

    def test_are_none_while_we_want_what_we_own(self):
        fields = {
            "f:metadata": {"f:labels": {"f:one": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:template": {
                    "f:spec": {
                        "f:containers": {keyed("serve"): {".": {}, "f:name": {}, "f:args": {}}},
                        "f:tolerations": {},
                    }
                },
            },
        }
        live = stored()
        live["metadata"]["managedFields"] = [entry(FIELD_MANAGER, fields)]
        assert not needs_apply(wanted(), live)

    def test_are_found_in_lists_that_are_keyed_by_a_default(self):
        port = {"containerPort": 8080, "protocol": "TCP"}
        live: Json = {"metadata": {}, "spec": {"ports": [port]}}
        fields = {"f:spec": {"f:ports": {"k:" + json.dumps(port): {"f:containerPort": {}}}}}
        live["metadata"]["managedFields"] = [entry(FIELD_MANAGER, fields)]
        assert not needs_apply({"spec": {"ports": [{"containerPort": 8080}]}}, live)
        assert needs_apply({"spec": {"ports": [{"containerPort": 9090}]}}, live)


class TestOwnership:
    def test_of_a_mount_is_found_by_its_path(self):
        mounts = {"k:" + json.dumps({"mountPath": "/b"}): {"f:subPath": {}}}
        live = {"metadata": {"managedFields": [entry("kubectl", {"f:volumeMounts": mounts})]}}
        assert owned_by_others(live, ("volumeMounts", "[/b]", "subPath"))
        assert not owned_by_others(live, ("volumeMounts", "[/a]", "subPath"))

    @pytest.mark.parametrize(
        ("managed", "others"),
        [
            ([], False),
            ([entry(FIELD_MANAGER, {"f:spec": {"f:replicas": {}}})], False),
            ([entry(FIELD_MANAGER, {"f:spec": {"f:replicas": {}}}, "Update")], False),
            ([entry("hpa", {"f:status": {"f:replicas": {}}}, "Update")], False),
            ([entry("hpa", {"f:spec": {"f:template": {}}}, "Update")], False),
            ([entry("hpa", {"f:spec": {"f:replicas": {}}}, "Update", subresource="scale")], True),
        ],
        ids=["nobody", "we apply", "we created", "the status", "another field", "the scale"],
    )
    def test_of_the_replicas_by_somebody_else(self, managed, others):
        live = {"metadata": {"managedFields": managed}}
        assert owned_by_others(live, ("spec", "replicas")) is others

    def test_of_what_we_created_becomes_that_of_what_we_apply(self):
        created = entry(FIELD_MANAGER, {"f:spec": {"f:a": {}, "f:b": {"f:c": {}}}}, "Update")
        applied = entry(FIELD_MANAGER, {"f:spec": {"f:b": {"f:d": {}}}})
        other = entry("kubectl", {"f:spec": {"f:e": {}}}, "Update")
        live = {"metadata": {"managedFields": [applied, other, created]}}
        before = copy.deepcopy(live)
        assert taken_over(live) == [
            entry(FIELD_MANAGER, {"f:spec": {"f:a": {}, "f:b": {"f:c": {}, "f:d": {}}}}),
            other,
        ]
        assert live == before

    def test_is_left_alone_when_we_only_ever_applied(self):
        status = entry(FIELD_MANAGER, {"f:status": {}}, "Update", subresource="status")
        live = {"metadata": {"managedFields": [entry(FIELD_MANAGER, {}), status]}}
        assert taken_over(live) is None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"replicas": 3, "pool": "gpu"},
        {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}},
        {"runtime": {"resources": {"limits": {"cpu": "1000m"}, "requests": {"cpu": ".5"}}}},
        {"template": {"tolerations": [], "labels": {}, "nodeSelector": {}, "affinity": {}}},
    ],
    ids=str,
)
async def test_what_was_just_written_needs_no_write(world: World, changes):
    world.apply(digest=samples.A, **changes)
    await world.run()
    plan = decide(world.observation(), world.settings, world.clock)
    for child in plan.children:
        live = world.own(kinds.BY_NAME[child["kind"]])
        assert live is not None
        assert not needs_apply(child, live)
