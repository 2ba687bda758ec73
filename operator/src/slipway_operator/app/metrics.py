"""Prometheus metrics of the operator. Every label has a bounded set of values."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from slipway_operator.api.conditions import AS_ASKED, AVAILABLE, READY, find
from slipway_operator.api.model_deployment import Json
from slipway_operator.api.reasons import Reason
from slipway_operator.api.status import Outcome
from slipway_operator.reconcile.observation import Impediment

# Reasons of the API server's Status objects, and our own.
_ERRORS = frozenset(
    {
        "AlreadyExists",
        "BadRequest",
        "Conflict",
        "Defect",
        "Expired",
        "Forbidden",
        "Gone",
        "InternalError",
        "Invalid",
        "NotFound",
        "RequestEntityTooLarge",
        "ServerTimeout",
        "ServiceUnavailable",
        "Timeout",
        "TooManyRequests",
        "TransportError",
        "Unauthorized",
        "UnsettledError",
    }
)
_REASONS = frozenset(reason.value for reason in Reason)
# Told of a model that serves, or has been scaled to zero; of any other there is worse to tell.
_SHORTFALLS = frozenset({"IntegrationDisabled", "KindMissing", "RemovalHeld", "RouteNotAccepted"})
_READY_REASONS = (
    _REASONS
    | {impediment.value for impediment in Impediment}
    | {"Deploying", "InvalidRollout", "PodsMissing", "RollbackRequested", "RollingOut"}
    | {"RolloutWithGap", "ScaledToZero", "Serving", "Suspended", "UnknownPool", "UnknownRevision"}
    | {"InvalidGolden", "InvalidProviders", "UnreadableSpec"}
    | _SHORTFALLS
)
OTHER = "Other"

Statuses = Callable[[], Iterator[Json]]


class Metrics:
    """The operator's metrics, in a registry of their own."""

    def __init__(self, statuses: Statuses = lambda: iter(())) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Conditions(statuses))
        self.reconcile_seconds = Histogram(
            "slipway_operator_reconcile_seconds",
            "Duration of a reconcile, by outcome; error when it will be tried again.",
            ["outcome"],
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )
        self.errors = Counter(
            "slipway_operator_reconcile_errors_total",
            "Reconciles that will be tried again, by kind of error.",
            ["error"],
            registry=self.registry,
        )
        self.rollouts = Counter(
            "slipway_operator_rollouts_total",
            "Rollouts that this process has given its verdict on, by outcome and reason.",
            ["outcome", "reason"],
            registry=self.registry,
        )
        # Present from the first scrape on: a rate over a series that first appears as 1 is 0.
        self.rollouts.labels(Outcome.GOOD, "")
        for reason in (*_REASONS, OTHER):
            self.rollouts.labels(Outcome.FAILED, reason)
        for error in (*_ERRORS, OTHER):
            self.errors.labels(error)
        self.queue_seconds = Histogram(
            "slipway_operator_queue_seconds",
            "How long a ModelDeployment that was due to be reconciled waited for a worker.",
            registry=self.registry,
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60),
        )
        self.events = Counter(
            "slipway_operator_events_total",
            "Events, sent or left out since there were too many.",
            ["result"],
            registry=self.registry,
        )
        for result in ("sent", "left out"):
            self.events.labels(result)
        self.queue_depth = Gauge(
            "slipway_operator_queue_depth",
            "ModelDeployments that wait for a worker.",
            registry=self.registry,
        )
        self.leader = Gauge(
            "slipway_operator_leader",
            "1 while this process holds the lease, whose namespace and name are its label.",
            ["lease"],
            registry=self.registry,
        )
        self.models = Gauge(
            "slipway_operator_models", "ModelDeployments known.", registry=self.registry
        )

    def failed(self, error: str) -> None:
        """A reconcile ended with an error; an unknown reason is counted as ``Other``."""
        self.errors.labels(error if error in _ERRORS else OTHER).inc()

    def told(self, sent: bool) -> None:
        """An Event was sent, or left out."""
        self.events.labels("sent" if sent else "left out").inc()

    def judged(self, outcome: str, reason: str) -> None:
        """A verdict on a rollout was recorded."""
        known = reason if reason in _REASONS or not reason else OTHER
        self.rollouts.labels(outcome, known).inc()


def _unavailable(status: Json) -> bool:
    told: list[Json] = status.get("conditions") or []
    return (
        find(told, AVAILABLE).get("status") == "False"
        and find(told, READY).get("reason") not in ("ScaledToZero", *_SHORTFALLS)
        and any(entry.get("outcome") == Outcome.GOOD for entry in status.get("history") or ())
    )


def _degraded(status: Json) -> bool:
    ready = find(status.get("conditions") or [], READY)
    return ready.get("status") == "True" and ready.get("reason") not in AS_ASKED


class _Conditions(Collector):
    """Counts ModelDeployments by what their status says, when asked."""

    def __init__(self, statuses: Statuses) -> None:
        self._statuses = statuses

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Each condition has a sample for each of its three statuses; each reason of Ready one."""
        family = GaugeMetricFamily(
            "slipway_operator_models_by_condition",
            "ModelDeployments by condition and its status; absent conditions count as False.",
            labels=["condition", "status"],
        )
        counts = {
            (kind, status): 0
            for kind in ("Ready", "Reconciling", "Stalled", "Available", "ArtifactVerified")
            for status in ("True", "False", "Unknown")
        }
        reasons = dict.fromkeys((*sorted(_READY_REASONS), OTHER), 0)
        unavailable = degraded = 0
        for model in self._statuses():
            unavailable += _unavailable(model)
            degraded += _degraded(model)
            if ready := find(model.get("conditions") or [], READY):
                reason = ready.get("reason", "")
                reasons[reason if reason in _READY_REASONS else OTHER] += 1
            told = {c["type"]: c["status"] for c in model.get("conditions") or ()}
            for kind in {kind for kind, _ in counts}:
                counts[kind, told.get(kind, "False" if told else "Unknown")] += 1
        for about, count in counts.items():
            family.add_metric(about, count)
        yield family
        why = GaugeMetricFamily(
            "slipway_operator_models_by_reason",
            "ModelDeployments by the reason of their condition Ready.",
            labels=["reason"],
        )
        for reason, count in reasons.items():
            why.add_metric([reason], count)
        yield why
        yield GaugeMetricFamily(
            "slipway_operator_models_unavailable",
            "ModelDeployments that have served, should serve, and have no pod that is ready.",
            unavailable,
        )
        yield GaugeMetricFamily(
            "slipway_operator_models_degraded",
            "ModelDeployments that serve what was asked for with fewer pods than they should.",
            degraded,
        )
