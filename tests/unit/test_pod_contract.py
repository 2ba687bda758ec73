"""The page on which operator and pod agree, held against both; neither imports the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway_operator.api.reasons import CLASS_OF, REASON_OF_EXIT_CODE, Reason
from slipway_operator.api.settings import Pool, Proxy
from slipway_operator.api.spec import ModelDeploymentSpec
from slipway_operator.build.cache import CACHE_DIR, COMPILERS, ENGINES_DIR
from slipway_operator.build.environment import HTTP_PORT
from slipway_operator.build.pod import pod_template
from slipway_runtime import errors
from slipway_runtime.cli import cli
from slipway_runtime.inference import engine_cache
from slipway_runtime.settings import CommonSettings, FetchSettings, ServeSettings

PAGE = (Path(__file__).parents[2] / "docs/pod-contract.md").read_text()
UNEXPECTED = {"InternalError": 1}
"""A defect of the runtime: for the operator a crash as any other."""


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of the table whose header begins with that word."""
    inside = False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == heading:
            inside = True
        elif inside and not set(line) <= set("|- "):
            yield cells


PROXY = Proxy(https_proxy="http://p:1", http_proxy="http://p:1", no_proxy=".svc")
DOCUMENTED = {reason: int(code) for code, reason, *_ in rows("code") if reason}
VARIABLES = {
    name: {"fetch", "serve"} if where == "both" else {where}
    for names, where, *_ in rows("variable")
    for name in re.findall(r"`([A-Z_0-9]+)`", names)
}


def failures(base: type[errors.Failure] = errors.Failure) -> Iterator[type[errors.Failure]]:
    for one in base.__subclasses__():
        yield one
        yield from failures(one)


RUNTIME = {one.__name__: one.exit_code for one in failures()}
OPERATOR = {str(reason): code for code, reason in REASON_OF_EXIT_CODE.items()}


def template(**changes: Any) -> dict[str, Any]:
    spec = ModelDeploymentSpec.model_validate(
        {
            "model": {
                "uri": "s3://models/fraud.onnx",
                "digest": "sha256:" + "a" * 64,
                "storage": {
                    "secretName": "reader",
                    "endpoint": "https://s3.example.com",
                    "region": "eu-west-1",
                    "addressingStyle": "path",
                    "anonymous": True,
                    "caBundle": {"configMapName": "ca"},
                },
            },
            "runtime": {
                "threads": {"intraOp": 2, "interOp": 1, "executor": 1},
                "providerOptions": {"CPUExecutionProvider": {"arena_extend_strategy": "x"}}
                if "providers" not in changes
                else {},
                "batching": {"maxBatchSize": 8, "maxDelayMs": 1},
                "workers": "auto",
                "queueSize": 9,
                "requestTimeoutMs": 500,
                "maxRequestSize": "1Mi",
                "nonFinite": "null",
                "aliases": ["other"],
                "grpc": True,
                "accessLog": True,
                "logLevel": "WARNING",
                "connections": {
                    "max": 512,
                    "keepAliveSeconds": 120,
                    "headerTimeoutSeconds": 5,
                    "bodyTimeoutSeconds": 30,
                },
                "busyPollMicroseconds": 0,
                "profiling": True,
                "graphOptimization": "basic",
                "sessionOptions": {"session.intra_op.allow_spinning": "1"},
                "customOpLibraries": ["/opt/ops.so"],
                "cpuArena": False,
                "tls": {"secretName": "certificate"},
                "bearerTokens": {"secretName": "tokens"},
            },
        }
    )
    return pod_template("fraud", spec, Pool(image="x", proxy=PROXY, **changes))


def container(name: str, **changes: Any) -> dict[str, Any]:
    spec = template(**changes)["spec"]
    return next(c for c in (*spec["initContainers"], *spec["containers"]) if c["name"] == name)


class TestExitCodes:
    def test_of_the_page_are_those_of_the_runtime(self):
        assert DOCUMENTED == RUNTIME

    def test_of_the_page_are_those_of_the_operator(self):
        assert DOCUMENTED == OPERATOR | UNEXPECTED

    def test_lead_to_a_reason_that_has_a_class(self):
        assert set(CLASS_OF) == set(Reason)
        assert set(REASON_OF_EXIT_CODE.values()) <= set(CLASS_OF)


class TestArguments:
    @pytest.mark.parametrize("command", ["fetch", "serve"])
    def test_that_the_operator_gives_are_options_of_the_runtime(self, command):
        given, *arguments = container(command)["args"]
        assert given == command
        known = {o for parameter in cli.commands[command].params for o in parameter.opts}
        required = {
            o
            for parameter in cli.commands[command].params
            if parameter.required
            for o in parameter.opts
        }
        used = {argument for argument in arguments if argument.startswith("--")}
        assert required <= used <= known

    @pytest.mark.parametrize("command", ["fetch", "serve"])
    def test_that_the_operator_gives_are_on_the_page(self, command):
        (usage,) = re.findall(rf"slipway-runtime {command} (.+)", PAGE)
        for argument in container(command)["args"]:
            if argument.startswith("--"):
                assert argument in usage


class TestVariables:
    @pytest.mark.parametrize(
        ("command", "settings"), [("fetch", FetchSettings), ("serve", ServeSettings)]
    )
    def test_that_the_operator_sets_are_read_by_the_runtime(self, command, settings):
        read = {field.alias for field in settings.model_fields.values()}
        # boto3 finds these by itself.
        read |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
        # As every HTTP client of Python finds these.
        read |= {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}
        assert {variable["name"] for variable in container(command)["env"]} <= read

    @pytest.mark.parametrize("command", ["fetch", "serve"])
    def test_that_the_operator_sets_are_on_the_page(self, command):
        for variable in container(command)["env"]:
            assert command in VARIABLES[variable["name"]]

    def test_of_the_page_are_read_by_the_runtime(self):
        read = {
            "fetch": {f.alias for f in FetchSettings.model_fields.values()},
            "serve": {f.alias for f in ServeSettings.model_fields.values()},
        }
        for name, commands in VARIABLES.items():
            for command in commands:
                if not re.match("AWS_(ACCESS|SECRET|SESSION)|(HTTPS?|NO)_PROXY", name):
                    assert name in read[command]

    @pytest.mark.parametrize(
        ("command", "settings"), [("fetch", FetchSettings), ("serve", ServeSettings)]
    )
    def test_have_values_that_the_runtime_takes(self, command, settings):
        values = {v["name"]: v["value"] for v in container(command)["env"] if "value" in v}
        read = settings.from_environment(values)
        assert str(read.cache_dir) == CACHE_DIR
        if command == "serve":
            assert (read.port, read.intra_op_threads, read.inter_op_threads) == (HTTP_PORT, 2, 1)
            assert read.providers == ["CPUExecutionProvider"]

    def test_are_enough_for_several_providers(self):
        providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
        environment = container("serve", providers=providers)["env"]
        values = {v["name"]: v["value"] for v in environment}
        read = ServeSettings.from_environment(values)
        assert read.providers == providers
        assert str(read.engine_cache_dir) == ENGINES_DIR

    def test_are_enough_for_preferred_providers(self):
        preferred = ["OpenVINOExecutionProvider"]
        environment = container("serve", preferred_providers=preferred)["env"]
        for variable in environment:
            assert "serve" in VARIABLES[variable["name"]]
        values = {v["name"]: v["value"] for v in environment}
        assert ServeSettings.from_environment(values).preferred_providers == preferred

    def test_and_paths_by_default_are_the_same_on_both_sides(self):
        by_default = CommonSettings.from_environment({})
        assert str(by_default.cache_dir) == CACHE_DIR
        assert str(by_default.termination_log) == container("serve")["terminationMessagePath"]
        assert f"`{CACHE_DIR}`" in PAGE


class TestProbes:
    def test_ask_for_the_routes_of_the_page(self):
        serve = container("serve")
        for probe, route in (
            ("startupProbe", "/v2/health/ready"),
            ("readinessProbe", "/v2/health/ready"),
            ("livenessProbe", "/v2/health/live"),
        ):
            assert serve[probe]["httpGet"]["path"] == route
            assert f"`GET {route}`" in PAGE


def test_the_cache_is_a_volume_that_fetch_writes_and_serve_reads():
    (cache,) = (v for v in template()["spec"]["volumes"] if v["name"] == "cache")
    assert "emptyDir" in cache
    for command, read_only in (("fetch", False), ("serve", True)):
        (mount,) = (m for m in container(command)["volumeMounts"] if m["name"] == "cache")
        assert mount["mountPath"] == CACHE_DIR
        assert mount.get("readOnly", False) is read_only


def test_engines_have_a_folder_of_that_volume_where_the_runtime_would_keep_some():
    assert set(COMPILERS) == set(engine_cache.COMPILERS)
    assert f"`{ENGINES_DIR}`" in PAGE
    for provider in COMPILERS:
        mounts = container("serve", preferred_providers=[provider])["volumeMounts"]
        (mount,) = (m for m in mounts if m["mountPath"] == ENGINES_DIR)
        assert mount == {"name": "cache", "mountPath": ENGINES_DIR, "subPath": "engines"}
