from __future__ import annotations

from pathlib import Path

import pytest
from runtime_kit import process

from slipway_runtime.settings import FetchSettings, ServeSettings, SettingsError, misspelled


def test_providers_are_a_list_in_order() -> None:
    settings = ServeSettings.from_environment(
        {"SLIPWAY_PROVIDERS": "CUDAExecutionProvider, CPUExecutionProvider"}
    )
    assert settings.providers == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_preferred_providers_are_a_list_beside_the_required_ones() -> None:
    settings = ServeSettings.from_environment(
        {
            "SLIPWAY_PROVIDERS": "CUDAExecutionProvider",
            "SLIPWAY_PREFERRED_PROVIDERS": "TensorrtExecutionProvider, OpenVINOExecutionProvider",
            "SLIPWAY_PROVIDER_OPTIONS": '{"TensorrtExecutionProvider": {"trt_fp16_enable": "1"}}',
        }
    )
    assert settings.preferred_providers == [
        "TensorrtExecutionProvider",
        "OpenVINOExecutionProvider",
    ]
    assert settings.provider_options["TensorrtExecutionProvider"] == {"trt_fp16_enable": "1"}
    assert ServeSettings.from_environment({}).preferred_providers == []


@pytest.mark.parametrize(
    ("required", "message"),
    [
        ("CUDAExecutionProvider,CPUExecutionProvider", "either required or preferred"),
        ("OpenVINOExecutionProvider", "takes every node"),
    ],
)
def test_a_provider_that_cannot_be_preferred_is_refused(required: str, message: str) -> None:
    variables = {
        "SLIPWAY_PROVIDERS": required,
        "SLIPWAY_PREFERRED_PROVIDERS": "CUDAExecutionProvider,CPUExecutionProvider",
    }
    with pytest.raises(SettingsError, match=f"SLIPWAY_PREFERRED_PROVIDERS: .*{message}"):
        ServeSettings.from_environment(variables)


def test_an_empty_variable_counts_as_not_set() -> None:
    settings = FetchSettings.from_environment({"AWS_ENDPOINT_URL": "", "SLIPWAY_S3_ANONYMOUS": " "})
    assert settings.endpoint_url is None
    assert settings.anonymous is False


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SLIPWAY_PORT", "eighty"),
        ("SLIPWAY_PORT", "70000"),
        ("SLIPWAY_PROVIDERS", "cuda"),
        ("SLIPWAY_PROVIDERS", "CPUExecutionProvider,,"),
        ("SLIPWAY_PREFERRED_PROVIDERS", "cuda"),
        ("SLIPWAY_INTRA_OP_THREADS", "-1"),
        ("SLIPWAY_DRAIN_DELAY_SECONDS", "-1"),
        ("SLIPWAY_LOG_FORMAT", "xml"),
        ("SLIPWAY_MAX_QUEUE", "0"),
        ("SLIPWAY_PROVIDER_OPTIONS", "{"),
        ("SLIPWAY_PROVIDER_OPTIONS", "[]"),
        ("SLIPWAY_SESSION_OPTIONS", "no"),
        ("SLIPWAY_GRAPH_OPTIMIZATION", "most"),
        ("SLIPWAY_CPU_ARENA_LIMIT_BYTES", "-1"),
        ("SLIPWAY_CPU_ARENA_LIMIT_BYTES", "9" * 25),
        ("SLIPWAY_MAX_BODY_BYTES", "9" * 25),
        ("SLIPWAY_KEEP_ALIVE_SECONDS", "9" * 25),
        ("SLIPWAY_DRAIN_DELAY_SECONDS", "1e25"),
        ("SLIPWAY_DRAIN_TIMEOUT_SECONDS", "inf"),
        ("SLIPWAY_REQUEST_TIMEOUT_SECONDS", "nan"),
        ("SLIPWAY_PROVIDER_OPTIONS", '{"CUDAExecutionProvider": {"device_id": "0"}}'),
    ],
)
def test_a_malformed_variable_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        ServeSettings.from_environment({variable: value})


def test_options_of_providers_are_json() -> None:
    options = '{"CPUExecutionProvider": {"arena_extend_strategy": "kSameAsRequested"}}'
    settings = ServeSettings.from_environment({"SLIPWAY_PROVIDER_OPTIONS": options})
    assert settings.provider_options == {
        "CPUExecutionProvider": {"arena_extend_strategy": "kSameAsRequested"}
    }


def test_the_addressing_style_says_what_it_may_be() -> None:
    with pytest.raises(SettingsError, match=r"'auto', 'path' or 'virtual'"):
        FetchSettings.from_environment({"SLIPWAY_S3_ADDRESSING_STYLE": "dns"})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SLIPWAY_MAX_QUEU", "SLIPWAY_MAX_QUEUE"),
        ("SLIPWAY_MAX_BATCHSIZE", "SLIPWAY_MAX_BATCH_SIZE"),
        ("SLIPWAY_FETCH_ATTEMPT", "SLIPWAY_FETCH_ATTEMPTS"),
        ("SLIPWAY_LOGLEVEL", "SLIPWAY_LOG_LEVEL"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_told(name: str, meant: str) -> None:
    assert misspelled({name: "1"}) == {meant: name}


@pytest.mark.parametrize(
    "name",
    [
        "SLIPWAY_MAX_QUEUE",
        "SLIPWAY_FETCH_ATTEMPTS",
        "SLIPWAY_SERVICE_HOST",
        "SLIPWAY_SERVICE_PORT",
        "SLIPWAY_PORT_8080_TCP_ADDR",
        "SLIPWAY_CONFIG",
        "SLIPWAY_KUBECTL",
        "MAX_QUEU",
    ],
)
def test_a_variable_that_is_a_setting_or_like_none_is_not_told(name: str) -> None:
    assert misspelled({name: "1"}) == {}


def test_a_misspelled_variable_is_in_the_log(tmp_path: Path) -> None:
    ended = process.run(
        tmp_path,
        *("serve", "--name", "m", "--digest", f"sha256:{0:064}"),
        extra={"SLIPWAY_MAX_QUEU": "1"},
    )
    assert "SLIPWAY_MAX_QUEU is no setting and has no effect: is SLIPWAY_MAX_QUEUE" in ended.log
