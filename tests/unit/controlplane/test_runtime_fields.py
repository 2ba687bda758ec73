"""What the fields of spec.runtime and of pools make of the pod; absent ones make nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from fake_cluster import pods, samples
from fake_cluster.world import World

from slipway_operator.api.quantity import quantity
from slipway_operator.api.settings import Settings
from slipway_operator.api.spec import Runtime
from slipway_operator.build.networkpolicy import network_policy
from slipway_operator.build.resolve import RejectedSpecError, resolve_pool
from slipway_operator.build.revision import render
from slipway_operator.build.service import service
from slipway_operator.reconcile import kinds
from slipway_runtime.settings import FetchSettings, ServeSettings

Json = dict[str, Any]


def rendered(settings: Settings | None = None, **spec: Any):
    model = samples.model(**spec)
    return render(model, resolve_pool(model.spec, settings or samples.settings()))


def pod(settings: Settings | None = None, **spec: Any) -> Json:
    return rendered(settings, **spec).template["spec"]


def serve(settings: Settings | None = None, **runtime: Any) -> Json:
    return pod(settings, runtime=runtime)["containers"][0]


def fetch(settings: Settings) -> Json:
    return pod(settings)["initContainers"][0]


def values(container: Json) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}


RELEASED = {
    "minimal": ({}, "98169541fd", "8607635372"),
    "gpu": ({"pool": "gpu"}, "72b3d1dbca", "6c1e1a95b2"),
    "threads and variables": (
        {
            "runtime": {
                "threads": {"intraOp": 4, "interOp": 2},
                "env": [{"name": "TZ", "value": "UTC"}],
                "cacheSize": "8Gi",
            }
        },
        "89bb0e95da",
        "157c1bf802",
    ),
}


@pytest.mark.parametrize("case", RELEASED)
def test_fields_that_nobody_uses_leave_the_revisions_of_released_operators_as_they_are(case):
    """Another hash would restart pods at an upgrade, or show them as outdated.

    A change here is a change of what is built: think of `adoptChanges` before you write it anew.
    """
    spec, pod_hash, spec_hash = RELEASED[case]
    found = rendered(**spec)
    assert (found.hash, found.spec_hash) == (pod_hash, spec_hash)


@pytest.mark.parametrize(
    ("field", "value", "variable", "told"),
    [
        ("batching", {"maxBatchSize": 1}, "SLIPWAY_MAX_BATCH_SIZE", "1"),
        ("batching", {"maxDelayMs": 5}, "SLIPWAY_MAX_BATCH_DELAY_MS", "5"),
        ("queueSize", 12, "SLIPWAY_MAX_QUEUE", "12"),
        ("requestTimeoutMs", 250, "SLIPWAY_REQUEST_TIMEOUT_SECONDS", "0.25"),
        ("requestTimeoutMs", 0, "SLIPWAY_REQUEST_TIMEOUT_SECONDS", "0"),
        ("maxRequestSize", "1Mi", "SLIPWAY_MAX_BODY_BYTES", "1048576"),
        ("nonFinite", "string", "SLIPWAY_NON_FINITE", "string"),
        ("aliases", ["a", "b.2"], "SLIPWAY_MODEL_ALIASES", "a,b.2"),
        ("grpc", True, "SLIPWAY_GRPC_PORT", "9000"),
        ("accessLog", True, "SLIPWAY_ACCESS_LOG", "true"),
        ("threads", {"executor": 3}, "SLIPWAY_EXECUTOR_THREADS", "3"),
        ("workers", 2, "SLIPWAY_WORKERS", "2"),
        ("workers", "auto", "SLIPWAY_WORKERS", "auto"),
        ("graphOptimization", "basic", "SLIPWAY_GRAPH_OPTIMIZATION", "basic"),
        ("sessionOptions", {"b": "2", "a": "1"}, "SLIPWAY_SESSION_OPTIONS", '{"a": "1", "b": "2"}'),
        ("customOpLibraries", ["/a.so", "/b.so"], "SLIPWAY_CUSTOM_OP_LIBRARIES", "/a.so,/b.so"),
        ("cpuArena", False, "SLIPWAY_CPU_ARENA", "false"),
        ("logLevel", "DEBUG", "SLIPWAY_LOG_LEVEL", "DEBUG"),
        ("connections", {"max": 64}, "SLIPWAY_MAX_CONNECTIONS", "64"),
        ("connections", {"keepAliveSeconds": 650}, "SLIPWAY_KEEP_ALIVE_SECONDS", "650"),
        ("connections", {"headerTimeoutSeconds": 0}, "SLIPWAY_HEADER_TIMEOUT_SECONDS", "0"),
        ("connections", {"bodyTimeoutSeconds": 90}, "SLIPWAY_BODY_TIMEOUT_SECONDS", "90"),
        ("busyPollMicroseconds", 0, "SLIPWAY_BUSY_POLL_MICROSECONDS", "0"),
        ("profiling", True, "SLIPWAY_PROFILING", "true"),
    ],
)
def test_a_field_reaches_the_runtime(field, value, variable, told):
    env = values(serve(**{field: value}))
    assert env[variable] == told
    assert set(env) - set(values(serve())) == {variable}
    ServeSettings.from_environment(env)


@pytest.mark.parametrize(
    "off",
    [
        {"grpc": False},
        {"accessLog": False},
        {"batching": {}},
        {"cpuArena": True},
        {"connections": {}},
        {"profiling": False},
    ],
)
def test_a_switch_that_is_off_is_as_one_that_is_absent(off):
    assert serve(**off) == serve()


def test_the_level_of_the_log_is_that_of_fetch_too():
    spec = pod(runtime={"logLevel": "DEBUG"})
    env = values(spec["initContainers"][0])
    assert env["SLIPWAY_LOG_LEVEL"] == "DEBUG"
    assert set(env) - set(values(fetch(samples.settings()))) == {"SLIPWAY_LOG_LEVEL"}
    assert FetchSettings.from_environment(env).log_level == "DEBUG"


FIELD_OF = {
    "SLIPWAY_GRPC_PORT": "grpc",
    "SLIPWAY_PROVIDERS": "providers",
    "SLIPWAY_PREFERRED_PROVIDERS": "preferredProviders",
    "SLIPWAY_PROVIDER_OPTIONS": "providerOptions",
    "SLIPWAY_INTRA_OP_THREADS": "threads",
    "SLIPWAY_INTER_OP_THREADS": "threads",
    "SLIPWAY_EXECUTOR_THREADS": "threads",
    "SLIPWAY_WORKERS": "workers",
    "SLIPWAY_MAX_BODY_BYTES": "maxRequestSize",
    "SLIPWAY_MAX_QUEUE": "queueSize",
    "SLIPWAY_MAX_BATCH_SIZE": "batching",
    "SLIPWAY_MAX_BATCH_DELAY_MS": "batching",
    "SLIPWAY_REQUEST_TIMEOUT_SECONDS": "requestTimeoutMs",
    "SLIPWAY_NON_FINITE": "nonFinite",
    "SLIPWAY_MODEL_ALIASES": "aliases",
    "SLIPWAY_ACCESS_LOG": "accessLog",
    "SLIPWAY_LOG_LEVEL": "logLevel",
    "SLIPWAY_MAX_CONNECTIONS": "connections",
    "SLIPWAY_KEEP_ALIVE_SECONDS": "connections",
    "SLIPWAY_HEADER_TIMEOUT_SECONDS": "connections",
    "SLIPWAY_BODY_TIMEOUT_SECONDS": "connections",
    "SLIPWAY_BUSY_POLL_MICROSECONDS": "busyPollMicroseconds",
    "SLIPWAY_PROFILING": "profiling",
    "SLIPWAY_GRAPH_OPTIMIZATION": "graphOptimization",
    "SLIPWAY_SESSION_OPTIONS": "sessionOptions",
    "SLIPWAY_CUSTOM_OP_LIBRARIES": "customOpLibraries",
    "SLIPWAY_CPU_ARENA": "cpuArena",
    "SLIPWAY_GOLDEN": "spec.golden",
    "SLIPWAY_TLS_CERTIFICATE": "tls",
    "SLIPWAY_TOKEN_FILE": "bearerTokens",
}


def test_the_refusal_of_variables_names_every_field_that_sets_one():
    """What users would set by a variable they find by the message that refuses it."""
    (rule,) = Runtime.model_json_schema(by_alias=True)["properties"]["env"][
        "x-kubernetes-validations"
    ]
    known = {field.alias for field in ServeSettings.model_fields.values()}
    assert set(FIELD_OF) <= known
    for field in FIELD_OF.values():
        assert field in rule["message"].replace(",", " ").split()


def expanded(value: str) -> str:
    """What the kubelet makes of a variable's value, as its documentation says."""
    pieces = re.split(r"(\$\$|\$\([^)]*\))", value)
    return "".join(
        "$" if piece == "$$" else "expanded" if piece.startswith("$(") else piece
        for piece in pieces
    )


def test_no_part_of_what_is_given_is_taken_for_the_name_of_a_variable():
    uri = "s3://models/a$$b/$(AWS_SECRET_ACCESS_KEY).onnx"
    template = pod(
        model={"uri": uri, "digest": samples.A},
        runtime={"sessionOptions": {"session.x": "$$(HOME)"}},
    )
    args = template["initContainers"][0]["args"]
    assert expanded(args[args.index("--uri") + 1]) == uri
    env = values(template["containers"][0])
    options = json.loads(expanded(env["SLIPWAY_SESSION_OPTIONS"]))
    assert options == {"session.x": "$$(HOME)"}


class TestGolden:
    @staticmethod
    def sample(text: str = "a") -> Json:
        return {
            "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [text]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [[0.5, 2]]}],
        }

    @pytest.mark.parametrize("text", ["a", "$", "$5", "$$5", "$(HOME)", "$$(HOME)", "$$$", "$("])
    def test_reaches_the_runtime_as_it_is_written(self, text):
        given = {"samples": [self.sample(text)], "atol": 0.01}
        container = pod(golden=given)["containers"][0]
        env = values(container)
        assert set(env) - set(values(serve())) == {"SLIPWAY_GOLDEN"}
        assert json.loads(expanded(env["SLIPWAY_GOLDEN"])) == given
        assert container["args"] == [*serve()["args"], "--golden"]

    def test_is_a_part_of_the_revision(self):
        assert rendered(golden={"samples": [self.sample()]}).hash != rendered().hash
        assert rendered(golden={"samples": [self.sample()]}).spec_hash != rendered().spec_hash

    def test_that_no_variable_can_hold_is_refused(self):
        large = {"name": "x", "datatype": "FP32", "shape": [4096], "data": [0.123456] * 4096}
        sample = {"inputs": [large] * 2, "outputs": [large]}
        with pytest.raises(RejectedSpecError, match="at most 65536") as refused:
            pod(golden={"samples": [sample]})
        assert refused.value.reason == "InvalidGolden"


class TestGrpc:
    def test_is_a_port_of_the_container_the_service_and_the_policy(self):
        settings, model = samples.settings(), samples.model(runtime={"grpc": True})
        (http, grpc) = serve(grpc=True)["ports"]
        assert (http["name"], grpc["name"]) == ("http", "grpc")
        (_, port) = service(model, encrypted=False)["spec"]["ports"]
        assert (port["name"], port["targetPort"], port["port"]) == ("grpc", "grpc", 9000)
        assert port["appProtocol"] == "kubernetes.io/h2c"
        policy = network_policy(model, settings)
        assert policy is not None
        (rule,) = policy["spec"]["ingress"]
        assert [p["port"] for p in rule["ports"]] == [8080, grpc["containerPort"]]

    def test_is_closed_unless_asked_for(self):
        policy = network_policy(samples.model(), samples.settings())
        assert policy is not None
        assert [p["port"] for p in policy["spec"]["ingress"][0]["ports"]] == [8080]
        (only,) = service(samples.model(), encrypted=False)["spec"]["ports"]
        assert only["name"] == "http"


TLS = {"tls": {"secretName": "fraud-tls"}}
TOKENS = {"bearerTokens": {"secretName": "clients", "key": "fraud"}}


def mount_of(spec: Json, volume: str) -> Json:
    (mount,) = (m for m in spec["containers"][0]["volumeMounts"] if m["name"] == volume)
    return mount


class TestTls:
    def test_gives_serve_alone_the_certificate_by_its_files(self):
        spec = pod(runtime=TLS)
        (volume,) = (v for v in spec["volumes"] if v["name"] == "tls")
        assert volume["secret"] == {"secretName": "fraud-tls"}
        assert mount_of(spec, "tls")["readOnly"]
        read = ServeSettings.from_environment(values(spec["containers"][0]))
        folder = mount_of(spec, "tls")["mountPath"]
        assert str(read.tls_certificate) == f"{folder}/tls.crt"
        assert str(read.tls_key) == f"{folder}/tls.key"
        assert "tls" not in {m["name"] for m in spec["initContainers"][0]["volumeMounts"]}

    def test_opens_a_port_of_its_own_and_leaves_probes_and_metrics_in_the_clear(self):
        (container,) = pod(runtime=TLS)["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports == {"http": 8080, "https": ServeSettings.from_environment({}).tls_port}
        probes = (container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness"))
        assert all(probe["port"] == "http" for probe in probes)
        policy = network_policy(samples.model(runtime=TLS), samples.settings())
        assert policy is not None
        assert [p["port"] for p in policy["spec"]["ingress"][0]["ports"]] == [8080, 8443]

    def test_is_a_port_of_the_service_by_its_protocol(self):
        made = service(samples.model(runtime={**TLS, "grpc": True}), encrypted=True)
        _, https, grpc = made["spec"]["ports"]
        assert (https["name"], https["port"], https["targetPort"]) == ("https", 443, "https")
        assert https["appProtocol"] == "https"
        # gRPC is encrypted too, so it is no h2c.
        assert "appProtocol" not in grpc

    async def test_leads_the_way_once_the_pods_that_encrypt_have_all_come(self):
        cluster = World(samples.settings(integrations=INTEGRATIONS))
        cluster.served = frozenset({"HTTPRoute", "Ingress"})
        gateway = {"hostnames": ["m.example.com"], "gateway": {"parentRefs": [{"name": "g"}]}}
        cluster.apply(route=gateway)
        await cluster.run()
        assert backend(cluster) == 80
        cluster.behaviours = {"a": pods.loading}
        cluster.apply(runtime=TLS)
        await cluster.run()
        assert backend(cluster) == 80
        cluster.behaviours = {"a": pods.ready}
        await cluster.run()
        assert backend(cluster) == 443
        cluster.apply(route=...)
        await cluster.run()
        assert cluster.status["url"] == "https://fraud.payments.svc"

    async def test_whose_secret_is_missing_leaves_the_way_to_the_pods_that_answer(self):
        cluster = World(samples.settings(integrations=INTEGRATIONS))
        cluster.served = frozenset({"Ingress"})
        cluster.apply(route={"hostnames": ["m.example.com"], "ingress": {}})
        await cluster.run()
        cluster.behaviours = {"b": pods.loading}
        cluster.apply(digest=samples.B, runtime=TLS)
        await cluster.run()
        cluster.pass_deadline()
        await cluster.run()
        assert cluster.condition("Stalled")["reason"] == "RolledBack"
        ingress = cluster.own(kinds.INGRESS)
        assert ingress is not None
        (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
        assert path["backend"]["service"]["port"] == {"name": "http"}
        assert cluster.deployment["spec"]["template"]["spec"]["containers"][0]["ports"] == [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"}
        ]


INTEGRATIONS = {"gateway": {"enabled": True}, "ingress": {"enabled": True}}


def backend(cluster: World) -> int:
    route = cluster.own(kinds.HTTP_ROUTE)
    assert route is not None
    (reference,) = route["spec"]["rules"][0]["backendRefs"]
    return reference["port"]


class TestTokens:
    def test_are_a_file_that_serve_alone_reads(self):
        spec = pod(runtime=TOKENS)
        (volume,) = (v for v in spec["volumes"] if v["name"] == "tokens")
        (item,) = volume["secret"]["items"]
        assert (volume["secret"]["secretName"], item["key"]) == ("clients", "fraud")
        folder = mount_of(spec, "tokens")["mountPath"]
        read = ServeSettings.from_environment(values(spec["containers"][0]))
        assert str(read.token_file) == f"{folder}/{item['path']}"
        assert "tokens" not in {m["name"] for m in spec["initContainers"][0]["volumeMounts"]}

    def test_leave_no_trace_of_a_secret_in_the_environment(self):
        container = pod(runtime={**TLS, **TOKENS})["containers"][0]
        assert not [variable for variable in container["env"] if "valueFrom" in variable]


def test_traces_go_where_a_variable_of_opentelemetry_says():
    endpoint = {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel.tracing:4318"}
    env = values(serve(env=[endpoint]))
    assert ServeSettings.from_environment(env).tracing


class TestOptionsOfProviders:
    def test_are_merged_over_the_pools_key_by_key(self):
        settings = samples.changed_pool(
            providers=["CUDAExecutionProvider", "CPUExecutionProvider"],
            providerOptions={"CUDAExecutionProvider": {"device_id": "0", "gpu_mem_limit": "1"}},
        )
        own = {"CUDAExecutionProvider": {"gpu_mem_limit": "2"}}
        env = values(serve(settings, providerOptions=own))
        merged = {"CUDAExecutionProvider": {"device_id": "0", "gpu_mem_limit": "2"}}
        assert json.loads(env["SLIPWAY_PROVIDER_OPTIONS"]) == merged
        assert ServeSettings.from_environment(env).provider_options == merged

    def test_of_a_provider_that_the_model_does_not_use_are_refused(self):
        own = {"CUDAExecutionProvider": {"device_id": "1"}}
        with pytest.raises(RejectedSpecError, match=r"add the provider to spec\.runtime") as caught:
            serve(providerOptions=own)
        assert caught.value.reason == "InvalidProviders"

    def test_of_a_pools_provider_that_the_model_replaces_are_left_out(self):
        settings = samples.changed_pool(
            providers=["CUDAExecutionProvider"],
            providerOptions={"CUDAExecutionProvider": {"device_id": "0"}},
        )
        assert "SLIPWAY_PROVIDER_OPTIONS" not in values(
            serve(settings, providers=["CPUExecutionProvider"])
        )


TRT, CUDA, OPENVINO, CPU = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "OpenVINOExecutionProvider",
    "CPUExecutionProvider",
)


class TestPreferredProviders:
    def test_of_the_model_come_instead_of_the_pools(self):
        settings = samples.changed_pool(preferredProviders=[OPENVINO])
        assert values(serve(settings))["SLIPWAY_PREFERRED_PROVIDERS"] == OPENVINO
        env = values(serve(settings, preferredProviders=[TRT, CUDA]))
        read = ServeSettings.from_environment(env)
        assert (read.preferred_providers, read.providers) == ([TRT, CUDA], [CPU])
        assert serve(settings, preferredProviders=[]) == serve()

    def test_may_have_options(self):
        own = {TRT: {"trt_fp16_enable": "1"}}
        env = values(serve(preferredProviders=[TRT], providerOptions=own))
        assert json.loads(env["SLIPWAY_PROVIDER_OPTIONS"]) == own
        ServeSettings.from_environment(env)

    def test_of_a_pool_are_required_where_a_model_requires_them(self):
        settings = samples.changed_pool(preferredProviders=[TRT, OPENVINO])
        env = values(serve(settings, providers=[TRT, CUDA]))
        assert env["SLIPWAY_PROVIDERS"] == f"{TRT},{CUDA}"
        assert env["SLIPWAY_PREFERRED_PROVIDERS"] == OPENVINO

    @pytest.mark.parametrize(
        "spec",
        [
            {"pool": "gpu", "runtime": {"preferredProviders": [CUDA]}},
            {"runtime": {"providers": [CUDA], "preferredProviders": [CUDA]}},
        ],
        ids=["by the pool", "by the model"],
    )
    def test_that_are_required_are_refused(self, spec):
        with pytest.raises(RejectedSpecError, match="remove it from preferredProviders") as caught:
            pod(**spec)
        assert caught.value.reason == "InvalidProviders"

    def test_leave_a_gpu_pool_its_required_one(self):
        spec = pod(pool="gpu", runtime={"preferredProviders": [TRT]})
        read = ServeSettings.from_environment(values(spec["containers"][0]))
        assert (read.preferred_providers, read.providers) == ([TRT], [CUDA])


class TestEngines:
    @pytest.mark.parametrize(
        "runtime",
        [
            {"providers": [OPENVINO]},
            {"providers": [TRT, CUDA]},
            {"preferredProviders": [OPENVINO]},
            {"preferredProviders": [TRT], "providers": [CUDA]},
        ],
        ids=["OpenVINO", "TensorRT", "OpenVINO preferred", "TensorRT preferred"],
    )
    def test_have_a_folder_of_the_cache_volume_that_serve_may_write(self, runtime):
        spec = pod(runtime={"cacheSize": "1Gi", **runtime})
        (container,) = spec["containers"]
        folder = ServeSettings.from_environment(values(container)).engine_cache_dir
        artifacts, engines = (m for m in container["volumeMounts"] if m["name"] == "cache")
        assert engines == {"name": "cache", "mountPath": str(folder), "subPath": "engines"}
        assert artifacts["readOnly"]
        assert not str(folder).startswith(f"{artifacts['mountPath']}/")
        assert (
            spec["initContainers"][0]["volumeMounts"] == fetch(samples.settings())["volumeMounts"]
        )

    def test_have_as_much_room_as_the_artifact_beside_it(self):
        plain = pod(runtime={"cacheSize": "1Gi"})
        compiled = pod(runtime={"cacheSize": "1Gi", "providers": [OPENVINO]})
        sizes = [
            quantity(spec["volumes"][0]["emptyDir"]["sizeLimit"]) for spec in (plain, compiled)
        ]
        assert sizes == [2**30, 2**31]
        assert plain["initContainers"][0]["args"] == compiled["initContainers"][0]["args"]

    @pytest.mark.parametrize("providers", [[CPU], [CUDA], [CUDA, CPU]])
    def test_have_none_where_no_provider_compiles(self, providers):
        spec = pod(runtime={"providers": providers})
        assert "SLIPWAY_ENGINE_CACHE_DIR" not in values(spec["containers"][0])
        assert spec["containers"][0]["volumeMounts"] == serve()["volumeMounts"]
        assert spec["volumes"] == pod()["volumes"]


class TestSharedMemory:
    def test_is_a_volume_of_that_size_in_memory_at_dev_shm(self):
        spec = pod(samples.changed_pool(sharedMemory="1Gi"))
        (volume,) = (v for v in spec["volumes"] if v["name"] == "shm")
        assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
        (mount,) = (m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "shm")
        assert mount["mountPath"] == "/dev/shm"
        assert "shm" not in {m["name"] for m in spec["initContainers"][0]["volumeMounts"]}

    def test_of_the_model_comes_before_that_of_the_pool(self):
        settings = samples.changed_pool(sharedMemory="1Gi")
        (volume,) = (
            v
            for v in pod(settings, runtime={"sharedMemory": "2Gi"})["volumes"]
            if v["name"] == "shm"
        )
        assert volume["emptyDir"]["sizeLimit"] == "2Gi"


class TestTheUser:
    @pytest.mark.parametrize("nobody", [None, ""])
    def test_is_left_to_the_platform_where_the_pool_says_so(self, nobody):
        security = pod(samples.changed_pool(runAsUser=nobody))["securityContext"]
        assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}

    def test_of_the_pool_owns_the_volumes_too(self):
        security = pod(samples.changed_pool(runAsUser=2000))["securityContext"]
        assert [security[k] for k in ("runAsUser", "runAsGroup", "fsGroup")] == [2000] * 3


PROXY = {"httpsProxy": "http://proxy:3128", "noProxy": ".svc,10.0.0.0/8"}


class TestTheProxy:
    def test_is_for_fetch_alone(self):
        settings = samples.settings(proxy=PROXY)
        env = values(fetch(settings))
        assert env["HTTPS_PROXY"] == "http://proxy:3128"
        assert env["NO_PROXY"] == ".svc,10.0.0.0/8"
        assert "HTTP_PROXY" not in env
        FetchSettings.from_environment(env)
        assert not [name for name in values(serve(settings)) if "PROXY" in name]

    def test_of_a_pool_comes_instead_of_that_of_all(self):
        plain = samples.changed_pool(proxy={"httpProxy": "http://other:8080"})
        settings = plain.model_copy(update={"proxy": samples.settings(proxy=PROXY).proxy})
        env = values(fetch(settings))
        assert env["HTTP_PROXY"] == "http://other:8080"
        assert "HTTPS_PROXY" not in env

    def test_that_is_empty_changes_no_pod(self):
        empty = {"httpsProxy": "", "httpProxy": "", "noProxy": ""}
        assert rendered(samples.settings(proxy=empty)).hash == rendered().hash


@pytest.mark.parametrize(
    ("device", "asked", "limits"),
    [
        ("nvidia.com/gpu", None, {"nvidia.com/gpu": 1}),
        ("nvidia.com/gpu", {"nvidia.com/gpu": 2}, {"nvidia.com/gpu": 2}),
        ("nvidia.com/mig-1g.10gb", None, {"nvidia.com/mig-1g.10gb": 1}),
        ("nvidia.com/gpu.shared", None, {"nvidia.com/gpu.shared": 1}),
        ("amd.com/gpu", {"amd.com/gpu": 4}, {"amd.com/gpu": 4}),
    ],
)
def test_a_pool_gives_one_device_of_its_kind_and_a_model_may_ask_for_more(device, asked, limits):
    settings = samples.changed_pool(resources={"limits": {device: 1}})
    runtime = {"resources": {"limits": asked}} if asked else {}
    assert serve(settings, **runtime)["resources"]["limits"] == limits
