"""What all commands share: quick help, exit codes, errors without traces, configuration."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_kit.run import PROGRAM, environment, process, slipway

from slipway.cli import Slipway, cli

HEAVY = ["boto3", "botocore", "numpy", "onnx", "onnxruntime", "rich", "ruamel", "torch"]


def modules_after(code: str, extra: dict[str, str] | None = None) -> set[str]:
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=environment(extra),
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["nonsense"]])
def test_help_imports_nothing_heavy_and_no_command(arguments: list[str]) -> None:
    loaded = modules_after(f"from slipway.cli import run\nrun({arguments!r})")
    assert not loaded & set(HEAVY)
    assert not [name for name in loaded if name.startswith("slipway.commands")]


def test_push_reads_no_weights_and_imports_what_it_sends_with_alone() -> None:
    loaded = modules_after("import slipway.commands.push")
    assert loaded & set(HEAVY) == {"botocore"}


def test_completion_of_a_command_imports_nothing_heavy() -> None:
    variables = {
        "_SLIPWAY_COMPLETE": "bash_complete",
        "COMP_WORDS": "slipway ins",
        "COMP_CWORD": "1",
    }
    code = "from slipway.cli import run\ntry: run([])\nexcept SystemExit: pass"
    assert not modules_after(code, variables) & set(HEAVY)


def test_completion_completes_commands_and_options() -> None:
    def complete(words: str, index: int) -> str:
        return process(
            extra={
                "_SLIPWAY_COMPLETE": "bash_complete",
                "COMP_WORDS": words,
                "COMP_CWORD": str(index),
            }
        ).out

    assert complete("slipway ins", 1) == "plain,inspect\n"
    assert "plain,--no-load" in complete("slipway inspect --no", 2)
    for shell, word in {"bash": "complete -o", "zsh": "compdef", "fish": "complete"}.items():
        assert word in slipway("completion", shell).out


def test_the_table_of_commands_is_what_the_commands_say() -> None:
    for name, entry in Slipway.entries.items():
        command = importlib.import_module(entry.module).command
        assert command.name == name
        assert command.get_short_help_str(200) == entry.summary


def test_every_command_but_completion_takes_json() -> None:
    for name, entry in Slipway.entries.items():
        parameters = {p.name for p in importlib.import_module(entry.module).command.params}
        assert "as_json" in parameters or name == "completion", name


def test_an_error_says_what_to_do_and_shows_no_trace(folder: Path) -> None:
    ended = process("inspect", "absent.onnx", cwd=folder)
    assert ended.code == 5
    assert ended.out == ""
    assert ended.err.startswith("error: there is no absent.onnx\n  try: ")
    assert "Traceback" not in ended.err


def test_a_folder_that_is_not_there_is_named(folder: Path, linear: Path) -> None:
    digest = "sha256:" + 64 * "0"
    place = ("--uri", "s3://a/b", "--digest", digest, "--name", "m", "--out", "absent/m.yaml")
    ended = slipway("manifest", *place)
    assert ended.code == 5
    assert "absent" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "fraud:model", "--out", "absent/m.onnx"),
        ("optimize", "model.onnx", "--out", "absent/m.onnx"),
        ("quantize", "model.onnx", "--out", "absent/m.onnx"),
        ("quantize", "model.onnx", "--html", "absent/report.html"),
        ("validate", "model.onnx", "--save-samples", "absent/samples.npz"),
        ("compose", "model.onnx", "--out", "absent/compose.yaml"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    # Neither model is there: what is told first is what was looked at first.
    ended = slipway(*arguments, "--json")
    assert ended.code == 5
    assert ended.json["error"]["message"] == "there is no folder absent"


def test_a_folder_in_the_place_of_a_file_is_told_before_the_work(folder: Path) -> None:
    (folder / "model.onnx").mkdir()
    ended = slipway("export", "fraud:model", "--out", "model.onnx")
    assert ended.code == 2
    assert "model.onnx is a folder" in ended.err


def test_an_error_is_json_when_json_is_asked_for(folder: Path) -> None:
    ended = slipway("inspect", "absent.onnx", "--json")
    assert ended.code == 5
    assert ended.json["error"]["reason"] == "NotFound"


def test_a_wrong_flag_is_a_usage_error() -> None:
    ended = slipway("inspect", "--nonsense")
    assert (ended.code, ended.out) == (2, "")
    assert "--nonsense" in ended.err
    assert "slipway inspect --help" in ended.err


def test_a_defect_is_named_as_one_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("slipway.commands.completion.get_completion_class", fail)
    ended = slipway("completion", "bash")
    assert ended.code == 1
    assert "a defect of slipway: ZeroDivisionError" in ended.err
    assert "Traceback" not in ended.err


def test_a_full_disk_is_no_defect(monkeypatch: pytest.MonkeyPatch, linear: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "model.onnx")

    monkeypatch.setattr("slipway.commands.inspect.gather", fail)
    ended = slipway("inspect", linear)
    assert ended.code == 8
    assert "there is no space left for model.onnx" in ended.err


def test_a_defect_is_json_where_that_is_asked_for(
    linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("slipway.commands.inspect.gather", fail)
    ended = slipway("inspect", linear, "--json")
    assert (ended.code, ended.json["error"]["reason"]) == (1, "SlipwayError")
    assert "a defect of slipway: ZeroDivisionError" in ended.json["error"]["message"]


def test_an_option_comes_from_flag_then_variable_then_file(
    folder: Path, linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def json_asked_for(*flags: str) -> bool:
        ended = slipway("inspect", linear, *flags)
        assert ended.code == 0
        return ended.out.startswith("{")

    assert not json_asked_for()
    (folder / "slipway.toml").write_text("[inspect]\njson = true\n")
    assert json_asked_for()
    monkeypatch.setenv("SLIPWAY_INSPECT_JSON", "false")
    assert not json_asked_for()
    assert json_asked_for("--json")


def test_every_option_is_known_to_variables_and_file_by_its_flag(
    folder: Path, linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the parameter has another name, and where an option may be given several times."""
    (folder / "slipway.toml").write_text('[validate]\nrange = ["0:2"]\nbatch-sizes = [4]\n')
    monkeypatch.setenv("SLIPWAY_VALIDATE_JSON", "1")
    monkeypatch.setenv("SLIPWAY_VALIDATE_SEEDS", "9")
    told = slipway("validate", linear).json
    assert {item["case"] for item in told["differences"]} == {"batch 4, seed 9"}


def test_storage_settings_count_for_every_command_that_has_them(folder: Path, linear: Path) -> None:
    (folder / "slipway.toml").write_text(
        '[storage]\nendpoint = "http://127.0.0.1:9"\n[push]\nto = "s3://models/x"\n'
    )
    extra = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    ended = process("push", linear, cwd=folder, extra=extra)
    assert (ended.code, "127.0.0.1:9" in ended.err) == (8, True)
    assert process("inspect", linear, cwd=folder).code == 0


def test_the_file_is_found_above_but_not_beyond_the_repository(folder: Path, linear: Path) -> None:
    below = folder / "models"
    below.mkdir()
    (folder / "slipway.toml").write_text("[inspect]\njson = true\n")
    assert process("inspect", linear, cwd=below).out.startswith("{")
    (below / ".git").mkdir()
    assert not process("inspect", linear, cwd=below).out.startswith("{")
    named = ("--config", folder / "slipway.toml", "inspect", linear)
    assert process(*named, cwd=below).out.startswith("{")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[inspekt]\n", "'inspekt' is not a section"),
        ("[inspect]\nlaod = true\n", "[inspect] has no option 'laod'"),
        ("[storage]\nbucket = 'x'\n", "[storage] has no option 'bucket'"),
        ("[inspect\n", "is no TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(
    folder: Path, linear: Path, content: str, told: str
) -> None:
    (folder / "slipway.toml").write_text(content)
    ended = slipway("inspect", linear)
    assert ended.code == 2
    assert told in ended.err


def _open_once_read(pipe: Path) -> int:
    """Open the writing end of a pipe as soon as somebody has opened it for reading."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline, "nobody opened the file"
            time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_with_130(folder: Path, number: int) -> None:
    pipe = folder / "model.onnx"
    os.mkfifo(pipe)
    running = subprocess.Popen(
        [PROGRAM, "inspect", pipe],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    writer = _open_once_read(pipe)
    running.send_signal(number)
    _, err = running.communicate(timeout=20)
    os.close(writer)
    assert running.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err


def test_nothing_is_told_when_the_reader_of_stdout_goes(linear: Path) -> None:
    done = subprocess.run(
        f"{PROGRAM} inspect {linear} --json | true",
        shell=True,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_the_options_of_slipway_are_documented() -> None:
    assert {option.name for option in cli.params} >= {"config_path"}
    assert "slipway.toml" in slipway("--help").out
