"""Only processes that we started are ever signalled."""

import json
import os
import signal
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from slipway_dev.errors import DevError
from slipway_dev.process import Program, identify, running_with_argument


@pytest.fixture
def stranger():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def remember(folder: Path, name: str, identity) -> None:
    (folder / "pids").mkdir(parents=True)
    (folder / "pids" / f"{name}.json").write_text(json.dumps(asdict(identity)))


@pytest.mark.parametrize("forged", [{"started": 1}, {"boot": "another-boot"}])
def test_a_pid_used_again_by_a_stranger_is_not_ours_and_never_ended(tmp_path, stranger, forged):
    identity = identify(stranger.pid)
    assert identity is not None
    remember(tmp_path, "etcd", replace(identity, **forged))
    program = Program("etcd", tmp_path)

    assert not program.running()
    program.stop(grace=0)
    with pytest.raises(DevError, match="does not run"):
        program.send(signal.SIGSTOP)

    assert stranger.poll() is None


def test_a_started_program_runs_until_it_is_stopped(tmp_path):
    program = Program("sleeper", tmp_path)
    program.start(["/bin/sleep", "60"])
    identity = program.identity()
    assert identity is not None

    program.stop()

    assert not identity.alive()
    assert not program.running()


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace(tmp_path):
    program = Program("stubborn", tmp_path)
    program.start(["/bin/sh", "-c", "trap '' TERM; echo set; while :; do sleep 1; done"])
    program.wait_until("trap", lambda: None if "set" in program.log.read_text() else "unset", 5)

    program.stop(grace=0.2)

    assert not program.running()


def test_a_paused_program_can_be_stopped(tmp_path):
    program = Program("sleeper", tmp_path)
    program.start(["/bin/sleep", "60"])
    program.send(signal.SIGSTOP)
    assert program.running()

    program.stop()

    assert not program.running()


def test_a_program_is_found_by_another_instance_through_its_pid_file(tmp_path):
    Program("sleeper", tmp_path).start(["/bin/sleep", "60"])
    try:
        assert Program("sleeper", tmp_path).running()
        with pytest.raises(DevError, match="already runs"):
            Program("sleeper", tmp_path).start(["/bin/sleep", "60"])
    finally:
        Program("sleeper", tmp_path).stop()


def test_waiting_for_a_program_that_dies_shows_its_log_at_once(tmp_path):
    program = Program("mortal", tmp_path)

    with pytest.raises(DevError, match="the reason"):  # noqa: PT012 - either may see it first
        program.start(["/bin/sh", "-c", "echo the reason; exit 3"])
        program.wait_until("never", lambda: "not yet", timeout=30)
    program.stop()


def test_a_deadline_names_the_last_state_and_shows_the_log(tmp_path):
    program = Program("slow", tmp_path)
    program.start(["/bin/sh", "-c", "echo working; exec sleep 60"])
    try:
        with pytest.raises(DevError) as caught:
            program.wait_until("slow is ready", lambda: "two of three", timeout=0.3)
    finally:
        program.stop()

    assert "slow is ready: not within 0.3 s. Last seen: two of three" in caught.value.message
    assert "working" in caught.value.hint


def test_a_program_that_cannot_be_started_is_an_expected_error(tmp_path):
    with pytest.raises(DevError, match="No such file"):
        Program("absent", tmp_path).start([tmp_path / "absent"])


def test_a_program_does_not_inherit_the_settings_of_the_callers_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    program = Program("env", tmp_path)
    program.start(["/bin/sh", "-c", "env; exec sleep 60"], env={"OURS": "1"})
    program.wait_until("output", lambda: None if "OURS" in program.log.read_text() else "", 5)
    program.stop()

    assert "PROXY" not in program.log.read_text()


def test_processes_are_found_by_a_whole_argument_only(tmp_path):
    socket = str(tmp_path / "run.sock")
    ours = subprocess.Popen(["/bin/sh", "-c", "sleep 60", "name", socket])
    other = subprocess.Popen(["/bin/sh", "-c", "sleep 60", "name", f"{socket}.old"])
    try:
        found = [identity.pid for identity in running_with_argument(socket)]
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()

    assert found == [ours.pid]


def test_this_process_has_an_identity_and_a_dead_one_has_none():
    own = identify(os.getpid())
    assert own is not None
    assert own.alive()
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert identify(ended.pid) is None
