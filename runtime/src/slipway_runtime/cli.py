"""The command line: parses arguments, runs one command, turns its end into an exit code.

Nothing heavy is imported before a command needs it: `fetch` never imports ONNX Runtime, `serve`
never boto3, `--help` neither.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import NoReturn, TypeVar

import click

from slipway_runtime import __version__, logs, termination
from slipway_runtime.errors import Failure, InternalError, InvalidArguments, SourceUnavailable
from slipway_runtime.settings import (
    MODEL_NAME,
    CommonSettings,
    FetchSettings,
    ServeSettings,
    Settings,
    SettingsError,
    misspelled,
)

logger = logging.getLogger(__name__)

_SIGNALLED = 128
_HANG_SECONDS = 10.0

S = TypeVar("S", bound=Settings)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slipway-runtime")
def cli() -> None:
    """Fetch, verify and serve one ONNX model. Settings come from SLIPWAY_* and AWS_* variables."""


@cli.command("fetch")
@click.option("--uri", required=True, help="s3://BUCKET/KEY, https://HOST/PATH or file:///PATH.")
@click.option("--digest", required=True, help="sha256:<64 hexadecimal digits>.")
@click.option("--max-bytes", type=click.IntRange(min=1), help="Refuse anything larger.")
def fetch_command(uri: str, digest: str, max_bytes: int | None) -> None:
    """Download the artifact into the cache, verified."""
    settings = _settings(FetchSettings)
    _warn_of_misspelled()
    # As PID 1 of a container the process would ignore a signal without a handler. What is written
    # so far stays for the next fetch.
    signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(_SIGNALLED + number))

    from slipway_runtime.artifact.cache import Cache  # noqa: PLC0415
    from slipway_runtime.artifact.digest import Digest  # noqa: PLC0415
    from slipway_runtime.artifact.fetch import fetch  # noqa: PLC0415
    from slipway_runtime.artifact.retry import Retry  # noqa: PLC0415
    from slipway_runtime.artifact.sources import open_source  # noqa: PLC0415

    wanted = Digest.parse(digest)
    _watch(settings)
    fetch(
        open_source(uri, settings),
        wanted,
        Cache(settings.cache_dir),
        max_bytes=max_bytes,
        retry=Retry(attempts=settings.attempts, deadline=settings.deadline),
        connections=settings.connections,
    )


@cli.command("serve")
@click.option("--digest", required=True, help="sha256:<64 hexadecimal digits>.")
@click.option("--name", required=True, help="The model's name in requests.")
@click.option("--golden", is_flag=True, help="Serve only what computes SLIPWAY_GOLDEN.")
def serve_command(digest: str, name: str, golden: bool) -> None:
    """Serve the artifact that `fetch` has put into the cache."""
    if not MODEL_NAME.fullmatch(name):
        raise InvalidArguments(f"--name {name!r} is not a model name (letters, digits, - _ .)")
    # As PID 1 of a container the process would ignore the signal until the server handles it.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    settings = _settings(ServeSettings)
    _warn_of_misspelled()
    # The variable alone would be ignored by a runtime that does not know it; a flag is refused.
    if golden and settings.golden is None:
        raise InvalidArguments("--golden asks for samples in SLIPWAY_GOLDEN, which is not set")

    from slipway_runtime.artifact.cache import Cache  # noqa: PLC0415
    from slipway_runtime.artifact.digest import Digest  # noqa: PLC0415

    wanted = Digest.parse(digest)
    if settings.workers != 1:
        from slipway_runtime.inference.threads import available_cpus  # noqa: PLC0415
        from slipway_runtime.server.crew import crew_of  # noqa: PLC0415

        cpus = available_cpus()
        crew = crew_of(settings, cpus, Cache(settings.cache_dir).size(wanted))
        if crew.workers > 1:
            from slipway_runtime.server.supervisor import (  # noqa: PLC0415
                WorkerEndedError,
                supervise,
            )

            try:
                supervise(name, wanted, settings, crew, cpus)
            except WorkerEndedError as ended:
                raise click.exceptions.Exit(ended.exit_code) from ended
            return
        logger.info("one worker for %d CPUs (SLIPWAY_WORKERS=%s)", cpus, settings.workers)

    from slipway_runtime.server.serve import serve  # noqa: PLC0415

    serve(name, wanted, settings)


@cli.command("worker", hidden=True)
@click.option("--digest", required=True)
@click.option("--name", required=True)
@click.option("--channel", type=int, required=True)
@click.option("--number", type=int, required=True)
def worker_command(digest: str, name: str, channel: int, number: int) -> None:
    """Serve as one of a supervisor's workers; started by `serve` alone."""
    settings = _settings(ServeSettings)
    logs.tell_always(worker=number)

    from slipway_runtime.artifact.digest import Digest  # noqa: PLC0415
    from slipway_runtime.server.worker import work  # noqa: PLC0415

    work(name, Digest.parse(digest), settings, channel)


def main() -> NoReturn:
    """Run the command line and end the process with the contract's exit code."""
    common = _common_settings()
    logs.configure(common.log_format, common.log_level)
    code = 0
    try:
        # The code of an Exit is returned, not raised.
        code = cli.main(standalone_mode=False) or 0
    except click.ClickException as error:
        code = _end(common, InvalidArguments(error.format_message()))
    except click.Abort:
        code = _SIGNALLED + signal.SIGINT
    except Failure as failure:
        code = _end(common, failure)
    except Exception as error:
        logger.critical("a defect of the runtime", exc_info=error)
        code = _end(common, InternalError(f"a defect of the runtime: {type(error).__name__}"))
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit(): an inference that never ends or a thread that still loads would hold the
    # interpreter back, and the pod with it.
    os._exit(code)


def _settings(kind: type[S]) -> S:
    try:
        return kind.from_environment(os.environ)
    except SettingsError as error:
        raise InvalidArguments(str(error)) from None


def _warn_of_misspelled() -> None:
    for meant, name in misspelled(os.environ).items():
        logger.warning("%s is no setting and has no effect: is %s meant?", name, meant)


def _watch(settings: FetchSettings) -> None:
    """End the process if it hangs past the deadline, wherever that is.

    `fetch` keeps the deadline itself as bytes come; this is for a client that blocks forever.
    """

    def give_up() -> None:
        message = f"the fetch hung past its deadline of {settings.deadline:g} s"
        os._exit(_end(settings, SourceUnavailable(message)))

    watchdog = threading.Timer(settings.deadline + _HANG_SECONDS, give_up)
    watchdog.daemon = True
    watchdog.start()


def _common_settings() -> CommonSettings:
    """Return the settings needed to report an error, even when one of them is the error."""
    try:
        return CommonSettings.from_environment(os.environ)
    except SettingsError:
        path = os.environ.get("SLIPWAY_TERMINATION_LOG", "").strip()
        return CommonSettings.model_validate({"SLIPWAY_TERMINATION_LOG": path} if path else {})


def _end(common: CommonSettings, failure: Failure) -> int:
    logger.error("%s: %s", failure.reason, failure.message, extra=failure.details)
    termination.write(common.termination_log, failure)
    return failure.exit_code
