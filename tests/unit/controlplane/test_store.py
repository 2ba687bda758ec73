"""What the operator knows of the cluster never goes back in time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.store import Store, key_of

Json = dict[str, Any]
KEY = ("payments", "fraud")


def obj(version: int, uid: str = "u1", name: str = "fraud", **metadata: Any) -> Json:
    return {
        "metadata": {
            "name": name,
            "namespace": "payments",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"slipway.dev/model": "fraud"},
            **metadata,
        },
        "spec": {"version": version},
    }


def known(store: Store, kind: kinds.Kind = kinds.DEPLOYMENT, name: str = "fraud") -> int | None:
    found = store.get(KEY, kind).get(name)
    return found and found["spec"]["version"]


def owner(kind: str, name: str) -> list[Json]:
    return [{"kind": kind, "name": name, "uid": "o", "controller": True}]


def test_what_is_new_is_taken_in_and_told():
    store = Store()
    assert store.put(kinds.DEPLOYMENT, obj(5)) == KEY
    assert store.put(kinds.DEPLOYMENT, obj(6)) == KEY
    assert known(store) == 6


def test_a_number_of_more_than_64_bits_is_taken_in():
    store = Store()
    changed = obj(5)
    changed["spec"]["golden"] = -(10**20)
    assert store.put(kinds.MODEL_DEPLOYMENT, changed) == KEY
    found = store.model(KEY)
    assert found is not None
    assert found["spec"]["golden"] == -1e20


@pytest.mark.parametrize("version", [5, 4])
def test_what_is_not_newer_is_neither_taken_in_nor_told(version):
    store = Store()
    store.put(kinds.DEPLOYMENT, obj(5))
    assert store.put(kinds.DEPLOYMENT, obj(version)) is None
    assert known(store) == 5


def test_versions_are_numbers_and_not_words():
    store = Store()
    store.put(kinds.DEPLOYMENT, obj(9))
    store.put(kinds.DEPLOYMENT, obj(10))
    assert known(store) == 10


def test_what_was_deleted_never_comes_back():
    store = Store()
    store.put(kinds.DEPLOYMENT, obj(5))
    assert store.remove(kinds.DEPLOYMENT, obj(6)) == KEY
    assert store.put(kinds.DEPLOYMENT, obj(7)) is None
    assert known(store) is None


def test_what_was_deleted_before_it_was_known_never_comes():
    store = Store()
    store.remove(kinds.DEPLOYMENT, obj(6))
    assert store.put(kinds.DEPLOYMENT, obj(5)) is None


def test_another_of_the_same_name_comes():
    store = Store()
    store.put(kinds.DEPLOYMENT, obj(5))
    store.remove(kinds.DEPLOYMENT, obj(6))
    assert store.put(kinds.DEPLOYMENT, obj(8, uid="u2")) == KEY
    assert known(store) == 8


def test_the_late_deletion_of_one_leaves_another_of_the_same_name():
    store = Store()
    store.put(kinds.DEPLOYMENT, obj(8, uid="u2"))
    store.remove(kinds.DEPLOYMENT, obj(6, uid="u1"))
    assert known(store) == 8


def test_what_was_read_just_now_exists_whatever_a_watch_has_told():
    store = Store()
    store.put(kinds.DEPLOYMENT, obj(5))
    store.remove(kinds.DEPLOYMENT, obj(6))
    store.confirm(kinds.DEPLOYMENT, obj(7))
    assert known(store) == 7
    assert store.put(kinds.DEPLOYMENT, obj(8)) == KEY


def replace_all(
    store: Store, kind: kinds.Kind, namespace: str | None, listed: list[Json], version: str
) -> set[tuple[str, str]]:
    """Take in a whole list as the resync does."""
    news = {store.put(kind, one) for one in listed} - {None}
    present = {one["metadata"]["uid"] for one in listed}
    return news | store.drop_absent(kind, namespace, present, version)


class TestAList:
    def test_removes_what_is_gone(self):
        store = Store()
        store.put(kinds.DEPLOYMENT, obj(5))
        assert replace_all(store, kinds.DEPLOYMENT, None, [], "7") == {KEY}
        assert known(store) is None
        assert store.put(kinds.DEPLOYMENT, obj(6)) is None

    def test_leaves_what_is_newer_than_itself(self):
        store = Store()
        store.put(kinds.DEPLOYMENT, obj(8))
        assert replace_all(store, kinds.DEPLOYMENT, None, [], "7") == set()
        assert known(store) == 8

    def test_does_not_undo_what_is_newer_than_itself(self):
        store = Store()
        store.put(kinds.DEPLOYMENT, obj(8))
        assert replace_all(store, kinds.DEPLOYMENT, None, [obj(6)], "7") == set()
        assert known(store) == 8

    def test_brings_what_was_missed(self):
        store = Store()
        assert replace_all(store, kinds.DEPLOYMENT, None, [obj(6)], "7") == {KEY}
        assert known(store) == 6

    def test_of_one_namespace_leaves_the_others(self):
        store = Store()
        store.put(kinds.DEPLOYMENT, obj(5))
        assert replace_all(store, kinds.DEPLOYMENT, "elsewhere", [], "7") == set()
        assert known(store) == 5

    def test_of_one_kind_leaves_the_others(self):
        store = Store()
        store.put(kinds.SERVICE, obj(5))
        replace_all(store, kinds.DEPLOYMENT, None, [], "7")
        assert known(store, kinds.SERVICE) == 5


class TestTheKeyOfAnObject:
    def test_is_its_own_name_for_a_model_deployment(self):
        assert key_of(kinds.MODEL_DEPLOYMENT, obj(1, labels={})) == KEY

    def test_is_its_label_for_a_pod(self):
        pod = obj(1, name="fraud-x", ownerReferences=owner("ReplicaSet", "fraud-y"))
        assert key_of(kinds.POD, pod) == KEY

    def test_is_its_owner_whatever_somebody_did_to_its_label(self):
        child = obj(
            1,
            labels={"slipway.dev/model": "else"},
            ownerReferences=owner("ModelDeployment", "fraud"),
        )
        assert key_of(kinds.DEPLOYMENT, child) == KEY

    def test_is_none_for_what_is_not_ours(self):
        assert key_of(kinds.POD, obj(1, labels={})) is None

    @pytest.mark.parametrize("labels", [{}, {"slipway.dev/model": "else"}], ids=["off", "other"])
    def test_may_change_as_when_a_pod_is_taken_out_of_service(self, labels):
        store = Store()
        store.put(kinds.POD, obj(5, name="pod"))
        assert "pod" in store.get(KEY, kinds.POD)
        store.put(kinds.POD, obj(6, name="pod", labels=labels))
        assert "pod" not in store.get(KEY, kinds.POD)
        assert store.put(kinds.POD, obj(5, name="pod")) in (KEY, None)
        store.remove(kinds.POD, obj(7, name="pod", labels=labels))
        assert store.get(("payments", "else"), kinds.POD) == {}


def test_pods_are_kept_without_what_no_decision_reads():
    store = Store()
    pod = obj(5, name="pod", annotations={"big": "x" * 999}, managedFields=[{}])
    pod["status"] = {
        "phase": "Running",
        "podIPs": [],
        "conditions": [{"type": "Ready"}, {"type": "ContainersReady"}],
    }
    store.put(kinds.POD, pod)
    kept = store.get(KEY, kinds.POD)["pod"]
    assert kept.keys() == {"metadata", "spec", "status"}
    assert kept["spec"] == {"nodeName": ""}
    assert not {"annotations", "managedFields"} & kept["metadata"].keys()
    assert kept["status"] == {"phase": "Running", "conditions": [{"type": "Ready"}]}


def test_of_the_containers_of_pods_only_names_and_probes_are_kept():
    store = Store()
    pod = obj(5, name="pod")
    probe = {"periodSeconds": 1, "failureThreshold": 600}
    fetch = {"name": "fetch", "image": "i"}
    serve = {"name": "serve", "image": "i", "env": [{}], "startupProbe": probe}
    pod["spec"] = {"nodeName": "n", "volumes": [], "initContainers": [fetch], "containers": [serve]}
    store.put(kinds.POD, pod)
    assert store.get(KEY, kinds.POD)["pod"]["spec"] == {
        "nodeName": "n",
        "initContainers": [{"name": "fetch"}],
        "containers": [{"name": "serve", "startupProbe": probe}],
    }


@given(st.permutations([("put", v) for v in range(1, 7)] + [("remove", 7)]))
def test_in_whatever_order_events_come_a_deleted_object_is_gone(events):
    store = Store()
    for what, version in events:
        if what == "put":
            store.put(kinds.DEPLOYMENT, obj(version))
        else:
            store.remove(kinds.DEPLOYMENT, obj(version))
    assert known(store) is None
    assert store.models() == []


@given(st.permutations(range(1, 8)))
def test_in_whatever_order_events_come_the_newest_wins(versions):
    store = Store()
    for version in versions:
        store.put(kinds.DEPLOYMENT, obj(version))
    assert known(store) == 7


def test_all_models_are_found():
    store = Store()
    store.put(kinds.MODEL_DEPLOYMENT, obj(1))
    store.put(kinds.POD, obj(2, name="p", labels={"slipway.dev/model": "gone"}))
    assert store.models() == [KEY]
    assert store.model(KEY) is not None
    assert store.model(("payments", "gone")) is None


def test_what_the_store_gives_is_the_callers_own():
    store = Store()
    given = obj(5)
    store.put(kinds.DEPLOYMENT, given)
    given["spec"]["version"] = 8
    store.get(KEY, kinds.DEPLOYMENT)["fraud"]["spec"]["version"] = 9
    assert known(store) == 5
