"""Why something is not as asked: the one table of reasons, their class and their exit codes.

The exit codes are the pods' side of the contract (docs/pod-contract.md).
"""

from enum import StrEnum


class FailureClass(StrEnum):
    """What a reason says about trying again."""

    INTRINSIC = "Intrinsic"
    """The artifact itself is wrong: failed at the first evidence, no retry can help."""

    ENVIRONMENTAL = "Environmental"
    """Something around the pod is wrong: named at once, failed only at the deadline."""

    AMBIGUOUS = "Ambiguous"
    """Could be either: failed after some restarts."""


class Reason(StrEnum):
    """Reasons of a pod or a rollout, as conditions, Events and metrics show them."""

    DIGEST_MISMATCH = "DigestMismatch"
    INVALID_MODEL = "InvalidModel"
    UNSUPPORTED_OPSET = "UnsupportedOpset"
    GOLDEN_MISMATCH = "GoldenMismatch"
    TOO_LARGE = "TooLarge"
    WARMUP_FAILED = "WarmupFailed"

    ARTIFACT_NOT_FOUND = "ArtifactNotFound"
    ACCESS_DENIED = "AccessDenied"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    IMAGE_PULL = "ImagePull"
    UNSCHEDULABLE = "Unschedulable"
    POD_CREATION_DENIED = "PodCreationDenied"
    CONTAINER_CONFIG = "ContainerConfig"
    VOLUME_MOUNT = "VolumeMount"
    INVALID_ARGUMENTS = "InvalidArguments"
    PROGRESS_DEADLINE = "ProgressDeadlineExceeded"

    OUT_OF_MEMORY = "OutOfMemory"
    PROVIDER_UNAVAILABLE = "ProviderUnavailable"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    CRASH = "Crash"


CLASS_OF: dict[Reason, FailureClass] = {
    Reason.DIGEST_MISMATCH: FailureClass.INTRINSIC,
    Reason.INVALID_MODEL: FailureClass.INTRINSIC,
    Reason.UNSUPPORTED_OPSET: FailureClass.INTRINSIC,
    Reason.GOLDEN_MISMATCH: FailureClass.INTRINSIC,
    Reason.TOO_LARGE: FailureClass.INTRINSIC,
    Reason.WARMUP_FAILED: FailureClass.INTRINSIC,
    Reason.ARTIFACT_NOT_FOUND: FailureClass.ENVIRONMENTAL,
    Reason.ACCESS_DENIED: FailureClass.ENVIRONMENTAL,
    Reason.SOURCE_UNAVAILABLE: FailureClass.ENVIRONMENTAL,
    Reason.IMAGE_PULL: FailureClass.ENVIRONMENTAL,
    Reason.UNSCHEDULABLE: FailureClass.ENVIRONMENTAL,
    Reason.POD_CREATION_DENIED: FailureClass.ENVIRONMENTAL,
    Reason.CONTAINER_CONFIG: FailureClass.ENVIRONMENTAL,
    Reason.VOLUME_MOUNT: FailureClass.ENVIRONMENTAL,
    Reason.INVALID_ARGUMENTS: FailureClass.ENVIRONMENTAL,
    Reason.PROGRESS_DEADLINE: FailureClass.ENVIRONMENTAL,
    Reason.OUT_OF_MEMORY: FailureClass.AMBIGUOUS,
    Reason.PROVIDER_UNAVAILABLE: FailureClass.AMBIGUOUS,
    Reason.EVICTED: FailureClass.AMBIGUOUS,
    Reason.NODE_LOST: FailureClass.AMBIGUOUS,
    Reason.CRASH: FailureClass.AMBIGUOUS,
}

REASON_OF_EXIT_CODE: dict[int, Reason] = {
    2: Reason.INVALID_ARGUMENTS,
    20: Reason.DIGEST_MISMATCH,
    21: Reason.INVALID_MODEL,
    22: Reason.UNSUPPORTED_OPSET,
    23: Reason.GOLDEN_MISMATCH,
    24: Reason.TOO_LARGE,
    25: Reason.WARMUP_FAILED,
    30: Reason.ARTIFACT_NOT_FOUND,
    31: Reason.ACCESS_DENIED,
    32: Reason.SOURCE_UNAVAILABLE,
    40: Reason.PROVIDER_UNAVAILABLE,
    41: Reason.OUT_OF_MEMORY,
}
