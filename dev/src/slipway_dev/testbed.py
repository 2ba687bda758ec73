"""Slipway installed on a real cluster, with an S3 server beside it: where demo and tests run."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from slipway_dev import binaries, images, paths
from slipway_dev.cluster import Cluster
from slipway_dev.console import step
from slipway_dev.errors import DevError
from slipway_dev.probes import tcp_probe
from slipway_dev.s3 import REGION, Keys, S3Server
from slipway_dev.state import Size
from slipway_dev.wait import wait_until

OPERATOR_NAMESPACE = "slipway-system"
RELEASE = "slipway"
STORAGE_SECRET = "models-reader"
BUCKET = "models"


@dataclass(frozen=True)
class Artifact:
    """A model file in the S3 server."""

    uri: str
    digest: str


class Testbed:
    """A node cluster, the images built from this checkout, the operator by Helm, and storage."""

    __test__ = False  # pytest: this is no test

    def __init__(self, name: str) -> None:
        self.name = name
        self.cluster = Cluster(name, Size.NODE)
        self.s3 = S3Server(name)
        self._reader = Keys("models-reader", f"secret-of-{name}-reader")

    # ---- life ----

    def up(self, values: Mapping[str, Any] | None = None) -> dict[str, int]:
        """Bring everything up, or what is missing of it; return the image sizes in bytes."""
        # From a cold start the programs take longest, and the images mostly wait for downloads.
        with ThreadPoolExecutor() as side_by_side:
            programs = side_by_side.submit(binaries.ensure, binaries.COMMON)
            sizes = images.build()
            programs.result()
        self.cluster.up()
        with step("Load the images onto the node"):
            self.cluster.load_images(list(sizes))
        self.s3.up()
        self._prepare_storage()
        self.install_operator(values)
        return sizes

    def down(self) -> None:
        """Remove the cluster and the S3 server, with all that is in them."""
        self.cluster.down()
        self.s3.down()

    def install_operator(self, values: Mapping[str, Any] | None = None) -> None:
        """Install the chart, or upgrade it, and wait until the operator is ready."""
        merged = _merge(_default_values(), values or {})
        with step("Install the operator with Helm"):
            self.helm(
                "upgrade",
                "--install",
                RELEASE,
                str(paths.repository() / "charts" / "slipway"),
                f"--namespace={OPERATOR_NAMESPACE}",
                "--create-namespace",
                "--values=-",
                "--wait",
                "--timeout=120s",
                input=json.dumps(merged),
            )

    def _prepare_storage(self) -> None:
        client = self.s3.root_client()
        existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        if BUCKET not in existing:
            client.create_bucket(Bucket=BUCKET)
            self.s3.create_user(self._reader.access, self._reader.secret)
            self.s3.allow_get(BUCKET, self._reader.access)

    # ---- use ----

    def helm(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        """Run helm against the cluster and return what it printed.

        Raises DevError with its complaint.
        """
        done = subprocess.run(
            [binaries.path("helm"), f"--kubeconfig={self.cluster.kubeconfig}", *arguments],
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DevError(f"helm {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def create_namespace(self, name: str) -> None:
        """Make a namespace, restricted by pod security, that holds the storage credentials."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        secret = {
            "AWS_ACCESS_KEY_ID": self._reader.access,
            "AWS_SECRET_ACCESS_KEY": self._reader.secret,
        }
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": labels},
            },
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": STORAGE_SECRET, "namespace": name},
                "stringData": secret,
            },
        )

    def upload(self, key: str, content: bytes) -> Artifact:
        """Put a model file into the bucket."""
        self.s3.root_client().put_object(Bucket=BUCKET, Key=key, Body=content)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return Artifact(f"s3://{BUCKET}/{key}", digest)

    def model(self, namespace: str, name: str, artifact: Artifact, **spec: Any) -> dict[str, Any]:
        """Return the manifest of a ModelDeployment that reads from this testbed's storage."""
        return {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "model": {
                    "uri": artifact.uri,
                    "digest": artifact.digest,
                    "storage": {
                        "secretName": STORAGE_SECRET,
                        "endpoint": self.s3.endpoint,
                        "region": REGION,
                        "addressingStyle": "path",
                    },
                },
                **spec,
            },
        }

    def apply(self, *manifests: dict[str, Any]) -> None:
        """``kubectl apply`` these objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(listed))

    def get_model(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a ModelDeployment as it is now."""
        return self.cluster.get("modeldeployment", name, "-n", namespace)

    def service_address(self, namespace: str, name: str) -> str:
        """Return the host and port of a Service that has a ready pod, once they can be reached.

        kube-proxy hears of a pod that became ready a moment after the API server; until then it
        refuses connections to a Service that had no pod before.
        """
        service = self.cluster.get("service", name, "-n", namespace)
        host, port = service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"]
        wait_until(f"{namespace}/{name} takes connections", tcp_probe(host, port), 30)
        return f"{host}:{port}"

    def wait_for(
        self,
        namespace: str,
        name: str,
        what: str,
        holds: Callable[[dict[str, Any]], bool],
        timeout: float = 60,
    ) -> dict[str, Any]:
        """Wait until ``holds(model)`` is true; return the model and tell its status if not."""
        seen: dict[str, Any] = {}

        def probe() -> str | None:
            seen.clear()
            seen.update(self.get_model(namespace, name))
            if holds(seen):
                return None
            return json.dumps(seen.get("status"), indent=2)

        try:
            wait_until(f"{namespace}/{name}: {what}", probe, timeout, interval=0.2)
        except DevError as error:
            pods = self.cluster.kubectl("get", "pods", "-n", namespace, check=False).stdout
            raise DevError(f"{error}\n{pods}") from None
        return seen


def condition(model: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of a ModelDeployment, or an empty one."""
    conditions: list[dict[str, Any]] = model.get("status", {}).get("conditions", [])
    absent: dict[str, Any] = {}
    return next((item for item in conditions if item["type"] == kind), absent)


def is_ready(model: dict[str, Any]) -> bool:
    """Whether the present generation of a ModelDeployment is Ready."""
    ready = condition(model, "Ready")
    generation = model["metadata"]["generation"]
    return ready.get("status") == "True" and ready.get("observedGeneration") == generation


def is_stalled(model: dict[str, Any]) -> bool:
    """Whether the present generation of a ModelDeployment waits for a person."""
    stalled = condition(model, "Stalled")
    generation = model["metadata"]["generation"]
    return stalled.get("status") == "True" and stalled.get("observedGeneration") == generation


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree of values over another, as Helm does."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], cast("Mapping[str, Any]", value)) if both else value
    return merged


def _default_values() -> dict[str, Any]:
    """Return what differs from the chart's defaults: images of this machine and small requests."""
    operator, runtime = (images.reference(name) for name in ("operator", "runtime"))
    # A null takes away what the chart gives by default: Helm merges maps.
    small = {
        "requests": {"cpu": "20m", "memory": "96Mi"},
        "limits": {"cpu": None, "memory": "512Mi"},
    }
    return {
        "image": {"repository": operator.rsplit(":", 1)[0], "tag": "dev"},
        "runtime": {
            "image": {"repository": runtime.rsplit(":", 1)[0], "tag": "dev"},
            # There is no GPU here: what is tested is that a pod without one never gets ready.
            "gpuImage": {"repository": runtime.rsplit(":", 1)[0], "tag": "dev"},
        },
        "pools": {
            "cpu": {
                "nodeSelector": {"slipway.dev/pool": "cpu"},
                "resources": small,
            },
            "gpu": {
                "nodeSelector": {"slipway.dev/pool": None},
                "resources": {
                    "requests": small["requests"],
                    "limits": {**small["limits"], "nvidia.com/gpu": 1},
                },
            },
        },
        # The tag stays while the image may be another one: a new pod takes the present image.
        "podAnnotations": {"slipway.dev/installed-at": f"{time.time():.0f}"},
    }


def results_folder() -> Path:
    """Return the folder for measured figures."""
    return paths.repository() / "bench" / "results"
