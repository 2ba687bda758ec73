"""The runtime's side of docs/pod-contract.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_runtime import errors, termination
from slipway_runtime.settings import FetchSettings, ServeSettings

CONTRACT = Path(__file__).parents[3] / "docs" / "pod-contract.md"


def failures() -> list[type[errors.Failure]]:
    return errors.Failure.__subclasses__()


def test_reasons_and_exit_codes_are_those_of_the_contract() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", CONTRACT.read_text(), re.MULTILINE)
    assert len(rows) >= 13
    documented = {reason: int(code) for code, reason in rows}
    assert {kind.__name__: kind.exit_code for kind in failures()} == documented


def test_every_variable_of_the_contract_is_read() -> None:
    names = set(re.findall(r"`((?:SLIPWAY|AWS)_[A-Z_0-9]+)`", CONTRACT.read_text()))
    assert len(names) >= 16
    read = {
        field.alias
        for settings in (FetchSettings, ServeSettings)
        for field in settings.model_fields.values()
    }
    # boto3 reads the credentials by itself.
    by_boto3 = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    assert names - by_boto3 <= read


def test_the_defaults_are_those_of_the_contract() -> None:
    serve = ServeSettings.from_environment({})
    assert (serve.port, serve.providers, serve.intra_op_threads, serve.inter_op_threads) == (
        8080,
        ["CPUExecutionProvider"],
        0,
        1,
    )
    assert (serve.drain_delay, serve.drain_timeout) == (5, 30)
    assert str(serve.cache_dir) == "/var/cache/slipway"
    assert str(serve.termination_log) == "/dev/termination-log"
    assert serve.log_format == "json"


def test_a_termination_message_has_reason_message_and_details(tmp_path: Path) -> None:
    path = tmp_path / "log"
    termination.write(path, errors.DigestMismatch("other bytes", expected="sha256:a", size=3))
    assert json.loads(path.read_bytes()) == {
        "reason": "DigestMismatch",
        "message": "other bytes",
        "expected": "sha256:a",
        "size": 3,
    }


@given(st.text(max_size=5000), st.text(max_size=5000))
def test_a_termination_message_never_exceeds_2048_bytes_and_always_parses(
    message: str, detail: str
) -> None:
    encoded = termination.encode(errors.InvalidModel(message, detail=detail))
    assert len(encoded) <= 2048
    parsed = json.loads(encoded)
    assert parsed["reason"] == "InvalidModel"
    assert message.startswith(parsed["message"].removesuffix("…").rstrip())


def test_a_long_message_keeps_as_much_as_fits() -> None:
    encoded = termination.encode(errors.InvalidModel("x" * 10_000))
    assert 2000 < len(encoded) <= 2048


def test_a_termination_log_that_cannot_be_written_raises_nothing(tmp_path: Path) -> None:
    termination.write(tmp_path / "missing" / "log", errors.InternalError("x"))
    termination.write(tmp_path, errors.InternalError("x"))


@pytest.mark.parametrize("kind", failures())
def test_each_failure_has_a_code_of_its_own(kind: type[errors.Failure]) -> None:
    assert [other for other in failures() if other.exit_code == kind.exit_code] == [kind]
