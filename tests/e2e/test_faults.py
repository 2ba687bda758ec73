"""What can be wrong with an artifact, in the cluster around it or with its people, a row a fault.

Each row serves a good version under steady load, brings its fault in and asks for a new version.
The status names the fault in its own words, and so do Events and metrics; the old version answers
throughout; what is wrong for good is given up and never tried again, and what is wrong around the
pods heals when the cause goes. `fault_kit.play` checks all of it. Rows mostly wait, so several are
played at once, and what they saw becomes docs/faults.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_types import Installed
from fault_kit import artifact_faults as artifact
from fault_kit import cluster_faults as cluster
from fault_kit import people_faults as people
from fault_kit import scenes
from fault_kit.play import Campaign, Fault, Row, Scene
from fault_kit.stage import Stage
from fault_record import RecordFault

from slipway_operator.api.reasons import Reason

# How many rows are played at once, and how many of them may be starting pods.
WORKERS, STARTS = 6, 2

A, C, P = "Artifact", "Cluster", "People"

INTRINSIC = [
    Fault(A, "wrong digest", artifact.wrong_digest, Reason.DIGEST_MISMATCH,
          "expected sha256:0000", container="fetch", exit_code=20),
    Fault(A, "corrupt file", artifact.corrupt, Reason.INVALID_MODEL,
          "refuses the model", container="serve", exit_code=21),
    Fault(A, "operator that ONNX Runtime has not got", artifact.unknown_operator,
          Reason.INVALID_MODEL, "NoSuchOperator", container="serve", exit_code=21),
    Fault(A, "unsupported opset", artifact.future_opset, Reason.UNSUPPORTED_OPSET,
          "99", container="serve", exit_code=22),
    Fault(A, "loads, and fails its warm-up", artifact.fails_its_warm_up, Reason.WARMUP_FAILED,
          "Reshape", container="serve", exit_code=25),
    Fault(A, "golden mismatch", artifact.golden_mismatch, Reason.GOLDEN_MISMATCH,
          "y", container="serve", exit_code=23),
    Fault(A, "golden mismatch, samples in the spec", artifact.golden_mismatch_of_the_spec,
          Reason.GOLDEN_MISMATCH, "y", container="serve", exit_code=23),
    Fault(A, "larger than the cache volume", artifact.larger_than_the_cache, Reason.TOO_LARGE,
          "spec.runtime.cacheSize", container="fetch", exit_code=24),
]  # fmt: skip

STORAGE = [
    Fault(A, "missing object", artifact.missing_object, Reason.ARTIFACT_NOT_FOUND,
          "there is no object", mend=Stage.another, mended="the object came"),
    Fault(A, "missing object, to the deadline", artifact.missing_object_until_the_deadline,
          Reason.ARTIFACT_NOT_FOUND, "there is no object", container="fetch", exit_code=30),
    Scene(A, "missing object of a first version", scenes.first_version_waits),
    Fault(A, "missing object, and no right to list", artifact.missing_object_hidden,
          Reason.ACCESS_DENIED, "was denied, or the object does not exist",
          mend=Stage.another, mended="the object came"),
    Fault(A, "denied access", artifact.denied_access, Reason.ACCESS_DENIED,
          "check the credentials", mend=artifact.allow_access, mended="the policy allowed"),
    Fault(A, "missing Secret", artifact.missing_secret, Reason.CONTAINER_CONFIG,
          'secret "own" not found', mend=artifact.give_the_secret, mended="the Secret came"),
    Fault(A, "missing key in the Secret", artifact.missing_key, Reason.CONTAINER_CONFIG,
          "couldn't find key AWS_SECRET_ACCESS_KEY", mend=artifact.give_the_secret,
          mended="the key came"),
    Fault(A, "rotated credentials", artifact.rotated_credentials, Reason.ACCESS_DENIED,
          "check the credentials", mend=artifact.rotate_the_secret,
          mended="the Secret had the new ones"),
    Fault(A, "storage down", artifact.storage_down, Reason.SOURCE_UNAVAILABLE,
          "does not answer", within=60, mend=artifact.storage_behaves, mended="it was up"),
    Fault(A, "storage that accepts and never answers", artifact.storage_silent,
          Reason.PROGRESS_DEADLINE, "no pod became available", within=60),
    Fault(A, "connections cut", artifact.cut_connections, Reason.SOURCE_UNAVAILABLE,
          "was cut off", within=60, mend=artifact.storage_behaves, mended="they held"),
    Fault(A, "storage that lies about the length", artifact.lies_about_length,
          Reason.SOURCE_UNAVAILABLE, "is shorter than it announced", within=60,
          mend=artifact.storage_behaves, mended="it told the truth"),
    Scene(A, "slow storage", scenes.slow_storage),
]  # fmt: skip

MEMORY = [
    Fault(A, "out of memory at load", artifact.out_of_memory_at_load, Reason.OUT_OF_MEMORY,
          "memory", container="serve", exit_code=137),
    Scene(A, "out of memory under traffic", scenes.out_of_memory_under_traffic),
]  # fmt: skip

AROUND = [
    Fault(C, "image missing", cluster.missing_image, Reason.IMAGE_PULL, "cannot be pulled",
          mend=cluster.load_the_image, mended="the image came"),
    Fault(C, "unschedulable", cluster.no_node_fits, Reason.UNSCHEDULABLE, "no node fits the pod",
          mend=cluster.label_the_node, mended="a node fitted"),
    Fault(C, "quota exceeded", cluster.quota, Reason.POD_CREATION_DENIED,
          "exceeded quota: one-pod", mend=cluster.lift_the_quota, mended="the quota was lifted"),
    Fault(C, "pod security denies what a mesh injects", cluster.pod_security,
          Reason.POD_CREATION_DENIED, 'violates PodSecurity "restricted:latest"',
          mend=cluster.remove_the_webhook, mended="the injection ended"),
    Fault(C, "admission webhook denies", cluster.webhook_denies, Reason.POD_CREATION_DENIED,
          "images must be signed", mend=cluster.remove_the_webhook, mended="the webhook was gone"),
    Fault(C, "missing ServiceAccount", cluster.missing_service_account,
          Reason.POD_CREATION_DENIED, 'serviceaccount "reader" not found',
          mend=cluster.create_the_service_account, mended="it came"),
    Fault(C, "missing ConfigMap of a volume", cluster.missing_config_map, Reason.VOLUME_MOUNT,
          'configmap "corporate-ca" not found', mend=cluster.create_the_config_map,
          mended="it came"),
    Scene(C, "evicted for a volume above its limit", scenes.evicted),
    Fault(C, "GPU advertised but absent", cluster.gpu_without_a_device,
          Reason.PROVIDER_UNAVAILABLE, "CUDAExecutionProvider", container="serve", exit_code=40),
]  # fmt: skip

# Seen by requests; what the API server sees of these and of more is in tests/controlplane.
PEOPLE = [
    Scene(P, "under load: kubectl rollout pause in the middle of a rollout", people.rollout_paused),
    Scene(P, "under load: an environment variable edited by hand", people.edited_by_hand),
    Scene(P, "under load: spec changed again in the middle of a rollout, three times",
          people.changed_three_times),
    Scene(P, "under load: reverted to the good digest after a failure", people.reverted),
]  # fmt: skip

# It takes the node from all others, so it comes last and alone.
DRAIN = Scene(C, "node drained", scenes.drained)

ROWS: list[Row] = [*INTRINSIC, *STORAGE, *MEMORY, *AROUND, *PEOPLE]


@pytest.fixture(scope="module")
def campaign(installed: Installed, request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """All chosen rows, begun at once."""
    here = Path(__file__)
    chosen = [
        item.callspec.params["row"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == here and hasattr(item, "callspec")
    ]
    with Campaign(installed.testbed, WORKERS, STARTS) as campaign:
        campaign.begin(chosen)
        yield campaign


@pytest.mark.parametrize(
    "row",
    [pytest.param(r, id=r.name, marks=pytest.mark.fault(r.group, r.name)) for r in ROWS],
)
def test_is_told_and_the_old_version_serves_on(
    campaign: Campaign, row: Row, record_fault: RecordFault
) -> None:
    record_fault(**vars(campaign.seen(row)))


@pytest.mark.fault(DRAIN.group, DRAIN.name)
def test_a_drain_takes_one_pod_and_leaves_the_other_to_serve(
    campaign: Campaign, record_fault: RecordFault
) -> None:
    record_fault(**vars(campaign.alone(DRAIN)))
