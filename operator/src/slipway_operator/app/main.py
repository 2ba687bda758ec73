"""Entry point of ``slipway-operator``."""

import argparse
import asyncio
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from slipway_operator.api.settings import Settings, SettingsError, load_settings
from slipway_operator.app import logs
from slipway_operator.app.errors import CannotStartError
from slipway_operator.app.process import run_operator


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="slipway-operator", description="Serves verified ONNX models on Kubernetes."
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {version('slipway-operator')}"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="reconcile ModelDeployments until told to stop")
    check = commands.add_parser("check-config", help="say whether a configuration can be used")
    for command in (run, check):
        command.add_argument(
            "--config", type=Path, required=True, help="the configuration, a YAML file"
        )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the command.

    Exit codes: 0 done, 1 the operator had to stop and should be restarted, 2 it cannot start as
    configured.
    """
    arguments = _arguments(argv)
    try:
        settings: Settings = load_settings(arguments.config)
    except SettingsError as error:
        _refuse(error)
    if arguments.command == "check-config":
        print(f"{arguments.config}: pools {', '.join(sorted(settings.pools))}")
        return
    logs.configure(settings.log_format)
    try:
        code = asyncio.run(run_operator(settings))
    except CannotStartError as error:
        _refuse(error)
    sys.exit(code)


def _refuse(error: Exception) -> NoReturn:
    print(f"slipway-operator: {error}", file=sys.stderr)
    sys.exit(2)
