"""``slipway serve``: the runtime on this machine."""

from __future__ import annotations

import tempfile
import webbrowser
from contextlib import ExitStack
from pathlib import Path

import click

from slipway import terminal
from slipway.options import FILE, json_option
from slipway.package import source
from slipway.serving.local import LocalServer, Wanted


@click.command("serve")
@click.argument("artifact", type=FILE)
@click.option("--name", help="The model's name in requests; default: the package's, or model.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    default=["CPUExecutionProvider"],
    show_default=True,
    help="Execution providers, all required, in order.",
)
@click.option("--cache", type=FILE, help="Keep verified copies here; default: a temporary folder.")
@click.option("--open", "show", is_flag=True, help="Open the page that describes the model.")
@json_option
def command(
    artifact: Path,
    name: str | None,
    host: str,
    port: int,
    providers: tuple[str, ...],
    cache: Path | None,
    show: bool,
    as_json: bool,
) -> None:
    """Serve a package or an .onnx file with the runtime, on this machine.

    The file is verified, loaded and warmed just as in a pod, and answers the same requests. Ends
    with Ctrl-C. --json prints url, name and digest once it is ready.
    """
    local = source.find(artifact)
    called = name or (local.manifest.name if local.manifest else "model")
    with ExitStack() as stack:
        folder = cache or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-")))
        wanted = Wanted(called, host, port, providers, folder)
        server = stack.enter_context(LocalServer(local, wanted))
        server.wait_until_ready()
        try:
            if as_json:
                terminal.print_json({"url": server.url, "name": called, "digest": server.digest})
            else:
                click.echo(f"{called} answers at {server.url} (description: {server.url}/docs)")
            if show:
                webbrowser.open(f"{server.url}/docs")
            server.wait()
        except KeyboardInterrupt:
            terminal.note("\nstopping")
