"""The operator's rights and configuration as the Helm chart has them, put into a cluster."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from operator_kit.api import Api
from slipway_dev import binaries, kubeconfig, paths
from slipway_dev.cluster import Cluster

Json = dict[str, Any]

NAMESPACE = "slipway-system"
RELEASE = "slipway"
_TOKEN_SECONDS = 6 * 3600  # as long as the longest of the programs in bench/
_RIGHTS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}


class Installation:
    """CRD, rights and configuration of the chart, without its Deployment: tests run the process."""

    def __init__(self, cluster: Cluster, api: Api, *values: str) -> None:
        self._cluster = cluster
        self._api = api
        self.objects = _rendered(*values)

    def install(self) -> None:
        """Apply the CRD and the rights as a person would."""
        self._cluster.kubectl("apply", "-f", paths.repository() / "crds")
        self._api.create("namespaces", {"metadata": {"name": NAMESPACE}})
        self.grant()
        self._cluster.kubectl(
            "wait", "--for=condition=Established", "crd/modeldeployments.slipway.dev"
        )

    def grant(self) -> None:
        """Apply the ServiceAccount, the roles and their bindings."""
        rights = [obj for obj in self.objects if obj["kind"] in _RIGHTS]
        self._cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(rights))

    def configuration(self) -> Json:
        """The operator's configuration as the chart renders it."""
        (config,) = (o for o in self.objects if o["kind"] == "ConfigMap")
        (text,) = config["data"].values()
        return yaml.safe_load(text)

    def credential(self) -> tuple[str, str]:
        """A new token of the operator's ServiceAccount, and its id in the audit log."""
        (account,) = (o["metadata"]["name"] for o in self.objects if o["kind"] == "ServiceAccount")
        token: str = self._api.request(
            "POST",
            f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token",
            body={"spec": {"expirationSeconds": _TOKEN_SECONDS}},
        )["status"]["token"]
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return token, f"JTI={claims['jti']}"

    def kubeconfig(self, path: Path, token: str, server: str | None = None) -> None:
        """Write a kubeconfig that has nothing but this token, and maybe another server."""
        admin: Json = yaml.safe_load(self._cluster.kubeconfig.read_text())
        if server is not None:
            admin["clusters"][0]["cluster"] = {"server": server}
        admin["users"][0]["user"] = {"token": token}
        kubeconfig.write(path, yaml.safe_dump(admin))


def _rendered(*values: str) -> list[Json]:
    done = subprocess.run(
        [
            binaries.path("helm"),
            "template",
            RELEASE,
            str(paths.repository() / "charts" / "slipway"),
            f"--namespace={NAMESPACE}",
            *(f"--set={value}" for value in values),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [obj for obj in yaml.safe_load_all(done.stdout) if obj]
