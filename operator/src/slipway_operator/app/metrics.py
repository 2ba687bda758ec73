"""Prometheus metrics of the operator."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The operator's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconcile_seconds = Histogram(
            "slipway_operator_reconcile_seconds",
            "Duration of a reconcile, by outcome.",
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
        self.queue_depth = Gauge(
            "slipway_operator_queue_depth",
            "ModelDeployments that wait for a worker.",
            registry=self.registry,
        )
        self.leader = Gauge(
            "slipway_operator_leader",
            "1 while this process holds the lease.",
            registry=self.registry,
        )
        self.models = Gauge(
            "slipway_operator_models", "ModelDeployments known.", registry=self.registry
        )
