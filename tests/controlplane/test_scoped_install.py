"""An install that watches some namespaces has rights there and nowhere else."""

from __future__ import annotations

from pathlib import Path

from operator_kit.api import Api
from operator_kit.audit import AuditLog
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.installation import Installation
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

from slipway_dev.cluster import Cluster


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
