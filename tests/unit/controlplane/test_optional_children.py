"""Children of kinds that not every cluster has: when they come, what is told when they cannot."""

from __future__ import annotations

from typing import Any

import pytest
from fake_cluster import pods, samples
from fake_cluster.world import World

from slipway_operator.api.settings import Settings
from slipway_operator.build.route import external_url
from slipway_operator.reconcile import kinds

Json = dict[str, Any]

ON: Json = {
    "podMonitor": {"enabled": True},
    "keda": {"enabled": True},
    "gateway": {"enabled": True},
    "ingress": {"enabled": True},
}
SCALING: Json = {
    "minReplicas": 1,
    "maxReplicas": 5,
    "triggers": [{"type": "cron", "metadata": {"desiredReplicas": "3"}}],
}
GATEWAY: Json = {
    "hostnames": ["fraud.example.com"],
    "path": "/",
    "gateway": {"parentRefs": [{"name": "public"}]},
}
GRPC: Json = {
    **GATEWAY,
    "gateway": {**GATEWAY["gateway"], "grpcHostnames": ["fraud.grpc.example.com"]},
}
INGRESS: Json = {"hostnames": ["fraud.example.com"], "path": "/", "ingress": {}}
ASKED: dict[str, tuple[Json, kinds.Kind, str]] = {
    "monitoring": ({"monitoring": {"enabled": True}}, kinds.POD_MONITOR, "podMonitor"),
    "triggers": ({"autoscaling": SCALING}, kinds.SCALED_OBJECT, "keda"),
    "gateway": ({"route": GATEWAY}, kinds.HTTP_ROUTE, "gateway"),
    "ingress": ({"route": INGRESS}, kinds.INGRESS, "ingress"),
}


def settings(integrations: Json | None = None) -> Settings:
    return samples.settings(integrations=ON if integrations is None else integrations)


def world(*served: kinds.Kind, integrations: Json | None = None) -> World:
    made = World(settings(integrations))
    made.served = frozenset(kind.name for kind in served)
    return made


@pytest.mark.parametrize("asked", ASKED)
class TestWhatIsAskedFor:
    async def test_comes_where_it_can_be_had(self, asked: str):
        spec, kind, _ = ASKED[asked]
        cluster = world(kind)
        cluster.apply(**spec)
        await cluster.run()
        child = cluster.own(kind)
        assert child is not None
        assert child["apiVersion"] == kind.api_version
        assert child["metadata"]["ownerReferences"][0]["kind"] == "ModelDeployment"
        assert cluster.conditions["Ready"] == "True"

    async def test_is_told_as_missing_while_the_model_is_served_all_the_same(self, asked: str):
        spec, kind, _ = ASKED[asked]
        cluster = world()
        cluster.apply(**spec)
        await cluster.run()
        assert cluster.own(kind) is None
        told = cluster.conditions
        assert (told["Ready"], told["Stalled"], told["Available"]) == ("False", "True", "True")
        assert "Reconciling" not in told
        said = cluster.condition("Stalled")
        assert said["reason"] == "KindMissing"
        assert kind.api_version in said["message"]
        assert cluster.status["serving"]["digest"] == samples.A
        (event,) = [e for e in cluster.events if e["reason"] == "KindMissing"]
        assert event["type"] == "Warning"

    async def test_comes_by_itself_when_the_kind_does(self, asked: str):
        spec, kind, _ = ASKED[asked]
        cluster = world()
        cluster.apply(**spec)
        await cluster.run()
        cluster.served = frozenset({kind.name})
        await cluster.run()
        assert cluster.own(kind) is not None
        assert cluster.conditions["Ready"] == "True"
        assert "Stalled" not in cluster.conditions

    async def test_that_the_operator_may_not_make_names_the_value_that_mends_it(self, asked: str):
        spec, kind, value = ASKED[asked]
        cluster = world(kind, integrations={})
        cluster.apply(**spec)
        await cluster.run()
        said = cluster.condition("Stalled")
        assert said["reason"] == "IntegrationDisabled"
        assert f"set integrations.{value}.enabled" in said["message"]

    async def test_goes_when_it_is_asked_for_no_more(self, asked: str):
        spec, kind, _ = ASKED[asked]
        cluster = world(kind, integrations={**ON, "podMonitor": {"enabled": False}})
        cluster.settings = settings()
        cluster.restart()
        cluster.apply(**spec)
        await cluster.run()
        assert cluster.own(kind) is not None
        gone = {"enabled": False} if asked == "monitoring" else ...
        cluster.apply(**{next(iter(spec)): gone})
        await cluster.run()
        assert cluster.own(kind) is None
        assert cluster.conditions["Ready"] == "True"

    async def test_stays_where_it_is_while_the_operator_has_lost_the_rights(self, asked: str):
        spec, kind, _ = ASKED[asked]
        cluster = world(kind)
        cluster.apply(**spec)
        await cluster.run()
        cluster.served = frozenset()
        await cluster.run()
        assert cluster.own(kind) is not None
        assert cluster.condition("Stalled")["reason"] == "KindMissing"

    async def test_changes_no_pod(self, asked: str):
        spec, kind, _ = ASKED[asked]
        cluster = world(kind)
        cluster.apply()
        await cluster.run()
        cluster.apply(**spec)
        await cluster.run()
        assert len(cluster.revisions) == 1
        assert cluster.templates == [samples.A]


class TestPodMonitors:
    async def test_come_for_every_model_where_the_operator_says_so(self):
        labels = {"release": "prometheus", "slipway.dev/model": "another"}
        monitors = {"enabled": True, "labels": labels, "interval": "15s"}
        cluster = world(kinds.POD_MONITOR, integrations={"podMonitor": monitors})
        cluster.apply()
        await cluster.run()
        monitor = cluster.own(kinds.POD_MONITOR)
        assert monitor is not None
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        assert monitor["metadata"]["labels"]["slipway.dev/model"] == samples.NAME
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint == {"port": "http", "path": "/metrics", "interval": "15s"}

    async def test_that_nobody_asked_for_by_name_are_not_missed(self):
        cluster = world()
        cluster.apply()
        await cluster.run()
        assert cluster.conditions["Ready"] == "True"

    async def test_can_be_switched_off_for_one_model(self):
        cluster = world(kinds.POD_MONITOR)
        cluster.apply(monitoring={"enabled": False})
        await cluster.run()
        assert cluster.own(kinds.POD_MONITOR) is None


class TestOneAutoscaler:
    async def test_is_there_at_a_time(self):
        cluster = world(kinds.SCALED_OBJECT)
        cluster.apply(autoscaling={"minReplicas": 1, "maxReplicas": 5})
        await cluster.run()
        assert cluster.own(kinds.AUTOSCALER) is not None
        begun = len(cluster.api.writes)
        cluster.apply(autoscaling=SCALING)
        await cluster.run()
        assert cluster.own(kinds.AUTOSCALER) is None
        assert cluster.own(kinds.SCALED_OBJECT) is not None
        order = [
            (write.verb, write.kind)
            for write in cluster.api.writes[begun:]
            if write.kind in ("HorizontalPodAutoscaler", "ScaledObject")
        ]
        # KEDA refuses a target that another autoscaler has.
        assert order == [("delete", "HorizontalPodAutoscaler"), ("create", "ScaledObject")]

    async def test_of_keda_goes_first_too(self):
        cluster = world(kinds.SCALED_OBJECT)
        cluster.apply(autoscaling=SCALING)
        await cluster.run()
        cluster.apply(autoscaling={"minReplicas": 1, "maxReplicas": 5})
        await cluster.run()
        assert cluster.own(kinds.AUTOSCALER) is not None
        assert cluster.own(kinds.SCALED_OBJECT) is None

    async def test_leaves_with_zero_replicas_by_hand(self):
        cluster = world(kinds.SCALED_OBJECT)
        cluster.apply(autoscaling=SCALING)
        await cluster.run()
        cluster.apply(replicas=0)
        await cluster.run()
        assert cluster.own(kinds.SCALED_OBJECT) is None
        assert cluster.condition("Ready")["message"].startswith("no pod, as spec.replicas asks")


class TestARemovalThatIsHeld:
    """As KEDA's finalizer does with its ScaledObject while its operator is down."""

    async def held(self) -> World:
        cluster = world(kinds.SCALED_OBJECT)
        cluster.apply(autoscaling=SCALING)
        await cluster.run()

        def hold(obj: Json) -> None:
            obj["metadata"]["finalizers"] = ["finalizer.keda.sh"]

        cluster.change(kinds.SCALED_OBJECT, hold)
        cluster.apply(autoscaling={"minReplicas": 1, "maxReplicas": 5})
        await cluster.run()
        assert cluster.own(kinds.SCALED_OBJECT) is not None
        return cluster

    async def test_is_waited_for_in_silence_as_long_as_it_may_take(self):
        cluster = await self.held()
        assert cluster.conditions["Ready"] == "True"
        assert cluster.own(kinds.AUTOSCALER) is None
        again = cluster.results[-1].requeue_after
        assert again is not None
        assert 0 < again <= 30

    async def test_is_told_with_who_holds_it_and_how_to_mend_it(self):
        cluster = await self.held()
        cluster.advance(cluster.results[-1].requeue_after or 0)
        await cluster.run()
        told = cluster.conditions
        assert (told["Ready"], told["Stalled"], told["Available"]) == ("False", "True", "True")
        said = cluster.condition("Stalled")
        assert said["reason"] == "RemovalHeld"
        for word in ("ScaledObject 'fraud'", "finalizer.keda.sh", "operator of KEDA"):
            assert word in said["message"]
        assert "kubectl patch scaledobject fraud -n payments" in said["message"]
        (event,) = [e for e in cluster.events if e["reason"] == "RemovalHeld"]
        assert event["type"] == "Warning"
        # Nothing more is due by the clock, and nothing more is written.
        writes = len(cluster.api.writes)
        cluster.advance(3600)
        assert (await cluster.reconcile()).requeue_after is None
        assert len(cluster.api.writes) == writes

    async def test_is_over_by_itself_when_it_goes(self):
        cluster = await self.held()
        cluster.advance(60)
        await cluster.run()

        def release(obj: Json) -> None:
            del obj["metadata"]["finalizers"]

        cluster.change(kinds.SCALED_OBJECT, release)
        await cluster.run()
        assert cluster.own(kinds.SCALED_OBJECT) is None
        assert cluster.own(kinds.AUTOSCALER) is not None
        assert cluster.conditions["Ready"] == "True"
        assert "Stalled" not in cluster.conditions


class TestWhatTheSpecTakesAwayAgain:
    """Right after the creation, when the API server tells no own field from a default."""

    async def test_is_taken_away_from_the_ingress(self):
        cluster = world(kinds.INGRESS)
        own = {"className": "nginx", "tlsSecretName": "tls"}
        cluster.apply(route={**INGRESS, "ingress": own})
        await cluster.run()
        cluster.apply(route={**INGRESS, "ingress": {"className": "nginx"}})
        await cluster.run()
        made = cluster.own(kinds.INGRESS)
        assert made is not None
        assert "tls" not in made["spec"]

    async def test_is_taken_away_from_the_scaled_object(self):
        cluster = world(kinds.SCALED_OBJECT)
        trigger = {"type": "cron", "metadata": {"start": "1", "end": "2"}, "metricType": "Value"}
        cluster.apply(autoscaling={**SCALING, "triggers": [trigger], "pollingIntervalSeconds": 5})
        await cluster.run()
        plain = {"type": "cron", "metadata": {"start": "1"}}
        cluster.apply(autoscaling={**SCALING, "triggers": [plain]})
        await cluster.run()
        made = cluster.own(kinds.SCALED_OBJECT)
        assert made is not None
        assert "pollingInterval" not in made["spec"]
        assert made["spec"]["triggers"][-1] == plain

    async def test_is_taken_away_from_the_route(self):
        cluster = world(kinds.HTTP_ROUTE)
        parent = {"name": "public", "sectionName": "https"}
        cluster.apply(route={**GATEWAY, "gateway": {"parentRefs": [parent]}})
        await cluster.run()
        cluster.apply(route=GATEWAY)
        await cluster.run()
        made = cluster.own(kinds.HTTP_ROUTE)
        assert made is not None
        (parent,) = made["spec"]["parentRefs"]
        assert "sectionName" not in parent

    async def test_is_taken_away_from_the_gateways_of_the_route(self):
        cluster = world(kinds.HTTP_ROUTE)
        both = [{"name": "public"}, {"name": "internal"}]
        cluster.apply(route={**GATEWAY, "gateway": {"parentRefs": both}})
        await cluster.run()
        cluster.apply(route={**GATEWAY, "gateway": {"parentRefs": both[1:]}})
        await cluster.run()
        made = cluster.own(kinds.HTTP_ROUTE)
        assert made is not None
        assert [parent["name"] for parent in made["spec"]["parentRefs"]] == ["internal"]

    async def test_is_taken_away_from_the_named_triggers(self):
        cluster = world(kinds.SCALED_OBJECT)
        both = [{"type": "cron", "name": name, "metadata": {"x": "1"}} for name in ("one", "two")]
        cluster.apply(autoscaling={**SCALING, "triggers": both})
        await cluster.run()
        cluster.apply(autoscaling={**SCALING, "triggers": both[:1]})
        await cluster.run()
        made = cluster.own(kinds.SCALED_OBJECT)
        assert made is not None
        assert [trigger["name"] for trigger in made["spec"]["triggers"] if "name" in trigger] == [
            "one"
        ]

    async def test_is_not_the_class_that_the_cluster_gave_to_the_ingress(self):
        cluster = world(kinds.INGRESS)
        cluster.apply(route=INGRESS)
        await cluster.run()

        def give(obj: Json) -> None:
            obj["spec"]["ingressClassName"] = "default"

        cluster.change(kinds.INGRESS, give)
        cluster.apply(route={**INGRESS, "hostnames": ["other.example.com"]})
        await cluster.run()
        made = cluster.own(kinds.INGRESS)
        assert made is not None
        assert made["spec"]["ingressClassName"] == "default"
        assert made["spec"]["rules"][0]["host"] == "other.example.com"


class TestAGrpcRoute:
    async def test_leads_to_the_port_of_grpc_by_host_names_of_its_own(self):
        cluster = world(kinds.HTTP_ROUTE, kinds.GRPC_ROUTE)
        cluster.apply(route=GRPC, runtime={"grpc": True})
        await cluster.run()
        http, grpc = cluster.own(kinds.HTTP_ROUTE), cluster.own(kinds.GRPC_ROUTE)
        assert http is not None
        assert grpc is not None
        assert http["spec"]["hostnames"] == ["fraud.example.com"]
        assert grpc["spec"]["hostnames"] == ["fraud.grpc.example.com"]
        assert grpc["spec"]["parentRefs"] == http["spec"]["parentRefs"]
        (rule,) = grpc["spec"]["rules"]
        assert rule["backendRefs"] == [{"name": samples.NAME, "port": 9000}]
        assert cluster.status["url"] == "https://fraud.example.com"
        cluster.apply(route=GATEWAY)
        await cluster.run()
        assert cluster.own(kinds.GRPC_ROUTE) is None
        assert cluster.own(kinds.HTTP_ROUTE) is not None

    async def test_is_told_as_missing_where_the_gateway_api_is_older(self):
        cluster = world(kinds.HTTP_ROUTE)
        cluster.apply(route=GRPC, runtime={"grpc": True})
        await cluster.run()
        said = cluster.condition("Stalled")
        assert said["reason"] == "KindMissing"
        assert "version 1.1 or later" in said["message"]
        assert cluster.own(kinds.HTTP_ROUTE) is not None

    async def test_that_a_gateway_refuses_is_told_and_leaves_the_way_for_http(self):
        cluster = world(kinds.HTTP_ROUTE, kinds.GRPC_ROUTE)
        cluster.apply(route=GRPC, runtime={"grpc": True})
        await cluster.run()
        cluster.change(kinds.GRPC_ROUTE, refused)
        await cluster.run()
        said = cluster.condition("Stalled")
        assert said["reason"] == "RouteNotAccepted"
        assert "does not take the GRPCRoute" in said["message"]
        assert cluster.status["url"] == "https://fraud.example.com"


def refused(obj: Json) -> None:
    condition = {
        "type": "Accepted",
        "status": "False",
        "reason": "NoMatchingListenerHostname",
        "message": "no listener takes fraud.example.com",
        "observedGeneration": obj["metadata"]["generation"],
    }
    obj["status"] = {"parents": [{"parentRef": {"name": "public"}, "conditions": [condition]}]}


class TestTheUrl:
    @pytest.mark.parametrize(
        ("route", "url"),
        [
            (GATEWAY, "https://fraud.example.com"),
            ({**GATEWAY, "https": False}, "http://fraud.example.com"),
            ({**GATEWAY, "path": "/models/fraud/"}, "https://fraud.example.com/models/fraud"),
            (INGRESS, "http://fraud.example.com"),
            ({**INGRESS, "ingress": {"tlsSecretName": "tls"}}, "https://fraud.example.com"),
            ({**INGRESS, "https": True}, "https://fraud.example.com"),
        ],
    )
    def test_of_a_route_is_that_of_its_first_host_name(self, route: Json, url: str):
        assert external_url(samples.model(route=route)) == url

    async def test_is_shown_when_the_route_is_there(self):
        cluster = world()
        cluster.apply(route=GATEWAY)
        await cluster.run()
        assert cluster.status["url"] == "http://fraud.payments.svc"
        cluster.served = frozenset({"HTTPRoute"})
        # At once: no event may follow that would make the operator look again.
        await cluster.reconcile()
        assert cluster.status["url"] == "https://fraud.example.com"

    async def test_is_that_inside_the_cluster_while_a_gateway_refuses_the_route(self):
        cluster = world(kinds.HTTP_ROUTE)
        cluster.apply(route=GATEWAY)
        await cluster.run()
        cluster.change(kinds.HTTP_ROUTE, refused)
        await cluster.run()
        said = cluster.condition("Stalled")
        assert said["reason"] == "RouteNotAccepted"
        assert "no listener takes fraud.example.com" in said["message"]
        assert cluster.status["url"] == "http://fraud.payments.svc"
        assert cluster.conditions["Available"] == "True"


async def test_what_is_missing_is_told_after_what_is_worse():
    cluster = world()
    cluster.behaviours = {"a": pods.fetch_ends(20)}
    cluster.apply(route=GATEWAY)
    await cluster.run()
    assert cluster.condition("Ready")["reason"] == "DigestMismatch"
