"""An install that watches some namespaces has rights there and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from operator_kit.api import Api
from operator_kit.audit import AuditLog
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.installation import Installation
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

from slipway_dev.cluster import Cluster

# The CustomResourceDefinition, which belongs to one install of a cluster.
pytestmark = pytest.mark.usefixtures("installation")


def test_an_install_for_some_namespaces_serves_these_and_no_other(
    cluster: Cluster,
    api: Api,
    kubelet: FakeKubelet,
    space: Space,
    audit: AuditLog,
    tmp_path: Path,
) -> None:
    other = Space(api, kubelet, f"{space.namespace}-other").create()
    scoped = Installation(
        cluster, api, "fullnameOverride=scoped", f"watch.namespaces={{{space.namespace}}}"
    )
    assert not [obj for obj in scoped.objects if obj["kind"].startswith("ClusterRole")]
    scoped.grant()
    mark = audit.mark()
    process = OperatorProcess(scoped, tmp_path, "scoped").start()
    try:
        process.until_leading()
        other.apply()
        space.settle(replicas=2)
        space.settle(replicas=2, version="v2")
        assert other.view().row == ("-", "-", "-", "-")
        assert not other.of("deployments")
        asked = audit.since(mark, process.credential)
        assert asked
        assert not [str(request) for request in asked if request.code == 403]
    finally:
        process.kill()
        other.clear()


def test_a_namespace_without_rights_stops_none_of_the_others(
    cluster: Cluster, api: Api, kubelet: FakeKubelet, space: Space, tmp_path: Path
) -> None:
    lost = Space(api, kubelet, f"{space.namespace}-lost").create()
    scoped = Installation(
        cluster,
        api,
        "fullnameOverride=lossy",
        f"watch.namespaces={{{lost.namespace},{space.namespace}}}",
    )
    scoped.grant()
    lost.apply()
    api.delete("rolebindings", lost.namespace, "lossy")
    process = OperatorProcess(scoped, tmp_path, "lossy").start()
    try:
        process.until_leading()
        space.settle(replicas=2)
        assert lost.view().row == ("-", "-", "-", "-")
        # With its rights back it is served, and again when they were lost meanwhile.
        scoped.grant()
        lost.until("is served", lambda view: view.settled, within=30)
        before = process.pid
        api.delete("rolebindings", lost.namespace, "lossy")
        lost.apply(version="v2")
        space.settle(replicas=2, version="v2")
        scoped.grant()
        lost.until("serves v2", lambda m: m.settled and m.serving == lost.digest("v2"), within=30)
        assert process.pid == before
        assert process.running()
    finally:
        process.kill()
        lost.clear()
