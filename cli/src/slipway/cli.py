"""Entry point of the ``slipway`` command: finds the command, and turns its end into an exit code.

Imports click and the standard library alone, so that ``--help`` and completion are quick.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from slipway import config
from slipway.errors import (
    AccessDenied,
    InvalidArguments,
    NotFound,
    SlipwayError,
    Unavailable,
)
from slipway.lazy import Entry, LazyGroup, options_of

_SIGNALLED = 128


class Slipway(LazyGroup):
    """All commands."""

    entries = {  # noqa: RUF012 - the base class types it as a read-only mapping
        name: Entry(f"slipway.commands.{name}", summary)
        for name, summary in {
            "export": "Make an ONNX file from a PyTorch, scikit-learn or MLflow model.",
            "inspect": "Tell what is in an ONNX file, and what would refuse it.",
            "validate": "Check a model, and compare what it computes.",
            "optimize": "Write the graph as ONNX Runtime would optimize it, and measure it.",
            "quantize": "Make an INT8 or FP16 variant, and keep it when it holds its bounds.",
            "pack": "Make a package: the model, what belongs to it, and slipway.json.",
            "push": "Upload a package or a bare .onnx file to S3, and print its uri and digest.",
            "verify": "Read a package or .onnx file again, here or in S3, and compare digests.",
            "manifest": "Write a ModelDeployment, or set a digest in YAML that is there.",
            "deploy": "Push a model, have a cluster serve it, and wait until it answers.",
            "status": "Tell what a ModelDeployment serves, its last failure, and its revisions.",
            "rollback": "Serve an earlier revision again, without a change of the spec.",
            "serve": "Serve a package or an .onnx file with the runtime, on this machine.",
            "predict": "Send data to a served model, and print what it answers.",
            "compose": "Print a hardened docker-compose file for those with no cluster.",
            "completion": "Print the completion script of a shell.",
        }.items()
    }


@click.group(
    cls=Slipway,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="SLIPWAY_CONFIG",
    help="The slipway.toml to read; default: the nearest one in this repository.",
)
@click.version_option(package_name="slipway", prog_name="slipway")
@click.pass_context
def cli(context: click.Context, config_path: Path | None) -> None:
    """From a trained model to a digest in Git.

    An option is taken from its flag, else from the variable SLIPWAY_<COMMAND>_<OPTION>, else from
    the section of the command in slipway.toml. Every command takes --json.
    """
    name = context.invoked_subcommand
    path = config_path or config.find(Path.cwd())
    if path is None or name is None or (command := cli.get_command(context, name)) is None:
        return
    options = {flag: str(option.name) for flag, option in options_of(command).items()}
    project = config.load(path, cli.list_commands(context))
    context.default_map = {name: project.defaults_of(name, options)}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code."""
    # The official ONNX Runtime wheels send telemetry unless this is set before their import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    signal.signal(signal.SIGTERM, _interrupt)
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors go to stderr, as JSON to stdout."""
    try:
        result = cli.main(list(arguments), prog_name="slipway", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        return _tell(InvalidArguments(error.format_message(), _usage_hint(error)), arguments)
    except click.ClickException as error:
        return _tell(InvalidArguments(error.format_message()), arguments)
    except (click.Abort, KeyboardInterrupt):
        with contextlib.suppress(OSError):
            click.echo("\ninterrupted; nothing was left half-written", err=True)
        return _SIGNALLED + signal.SIGINT
    except SlipwayError as error:
        return _tell(error, arguments)
    except BrokenPipeError:
        # The reader of stdout has gone, as `| head` does. Keep the interpreter from saying so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGNALLED + signal.SIGPIPE
    except FileNotFoundError as error:
        return _tell(NotFound(f"there is no {error.filename}", "check the path"), arguments)
    except PermissionError as error:
        return _tell(AccessDenied(f"{error.filename}: {error.strerror}"), arguments)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _defect(error, arguments)
        where = f" for {error.filename}" if error.filename else ""
        full = Unavailable(f"there is no space left{where}", "nothing was left half-written")
        return _tell(full, arguments)
    except Exception as error:  # noqa: BLE001 - the last resort: no stack trace for people
        return _defect(error, arguments)


def _tell(error: SlipwayError, arguments: Sequence[str]) -> int:
    if "--json" in arguments:
        told = {"reason": error.reason, "message": error.message, "hint": error.hint}
        click.echo(json.dumps({"error": told}, indent=2, ensure_ascii=False))
    else:
        click.secho("error: ", err=True, fg="red", bold=True, nl=False)
        click.echo(error.message, err=True)
        if error.hint:
            click.secho("  try: ", err=True, fg="cyan", nl=False)
            click.echo(error.hint, err=True)
    return error.exit_code


def _defect(error: Exception, arguments: Sequence[str]) -> int:
    if os.environ.get("SLIPWAY_TRACEBACK"):
        traceback.print_exception(error)
    told = f"a defect of slipway: {type(error).__name__}: {error}"
    return _tell(SlipwayError(told, "SLIPWAY_TRACEBACK=1 shows where; please report it"), arguments)


def _usage_hint(error: click.UsageError) -> str:
    return f"{error.ctx.command_path} --help" if error.ctx else ""


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
