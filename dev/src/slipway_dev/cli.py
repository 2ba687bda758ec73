"""The command `dev/cluster`."""

from __future__ import annotations

import json
import os
import signal
import sys

import click
from rich.markup import escape
from rich.table import Table

from slipway_dev import binaries, images
from slipway_dev import clean as cleaning
from slipway_dev import state as states
from slipway_dev.cluster import Cluster
from slipway_dev.console import console, results, say
from slipway_dev.errors import DevError
from slipway_dev.s3 import REGION, S3Server
from slipway_dev.state import Size

_MEGABYTE = 1_000_000

name_option = click.option(
    "--name", default="demo", show_default=True, help="Which cluster, where there are several."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cluster() -> None:
    """A real Kubernetes on this machine, for development and tests of Slipway."""


@cluster.command()
@name_option
@click.option(
    "--size",
    type=click.Choice([size.value for size in Size]),
    default=Size.NODE.value,
    show_default=True,
    help="Only a control plane, with one real node (needs root), or with simulated nodes.",
)
def up(name: str, size: str) -> None:
    """Bring a cluster up, building and installing first what is missing."""
    wanted = Cluster(name, size)
    wanted.up()
    results.print(f"export KUBECONFIG={wanted.kubeconfig}")


@cluster.command()
@name_option
def down(name: str) -> None:
    """Remove a cluster and every trace of it."""
    known = states.load(name)
    if known is None:
        say(f"There is no cluster named {name}")
    Cluster(name, known.size if known else Size.CONTROL_PLANE).down()


@cluster.command()
@name_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(name: str, as_json: bool) -> None:
    """Show how each part of a cluster is; exit with 1 unless all are ready."""
    known = Cluster.find(name)
    health = known.health()
    healthy = all(said == "ready" for said in health.values())
    if as_json:
        facts = {
            "name": name,
            "size": known.size.value,
            "healthy": healthy,
            "kubeconfig": str(known.kubeconfig),
            "nodeAddress": known.node_address,
            "components": health,
        }
        click.echo(json.dumps(facts, indent=2))
    else:
        table = Table(title=f"Cluster {name} ({known.size})", title_justify="left")
        table.add_column("component")
        table.add_column("state")
        for component, said in health.items():
            colour = "green" if said == "ready" else "red"
            table.add_row(component, f"[{colour}]{escape(said)}[/{colour}]")
        results.print(table)
        results.print(f"KUBECONFIG={known.kubeconfig}")
    sys.exit(0 if healthy else 1)


@cluster.command("kubeconfig")
@name_option
def print_kubeconfig(name: str) -> None:
    """Print the path of the administrator's kubeconfig."""
    click.echo(Cluster.find(name).kubeconfig)


@cluster.command()
@name_option
@click.argument("component", required=False)
@click.option("--lines", default=50, show_default=True, help="How many of the last lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on printing what is added.")
def logs(name: str, component: str | None, lines: int, follow: bool) -> None:
    """Print the end of the log of one COMPONENT, or of all."""
    folder = states.folder(name) / "logs"
    wanted = [folder / f"{component}.log"] if component else sorted(folder.glob("*.log"))
    if not wanted or not all(log.exists() for log in wanted):
        there = ", ".join(sorted(log.stem for log in folder.glob("*.log"))) or "none"
        raise DevError(f"Cluster {name} has no log of {component or 'anything'}.", f"Has: {there}")
    command = ["tail", f"--lines={lines}", *(["--follow"] if follow else []), *map(str, wanted)]
    os.execvp("tail", command)


@cluster.command("load-image")
@name_option
@click.argument("image", nargs=-1, required=True)
def load_image(name: str, image: tuple[str, ...]) -> None:
    """Bring each IMAGE that build-images made to the node."""
    Cluster.find(name).load_images(image)


@cluster.command("build-images")
@click.option("--tag", default="dev", show_default=True)
@click.option("--mirror", help="The Debian mirror of the base image [default: the machine's own].")
@click.argument("image", nargs=-1, type=click.Choice([*images.NAMES, *images.FLAVOURS]))
def build_images(tag: str, mirror: str | None, image: tuple[str, ...]) -> None:
    """Build the images of the operator and the runtime (or only the named ones)."""
    for reference, size in images.build(image or images.NAMES, tag, mirror).items():
        results.print(f"{reference} {size / _MEGABYTE:.1f} MB")


@cluster.command()
@click.argument("tool", nargs=-1)
def tools(tool: tuple[str, ...]) -> None:
    """Build the named tools, or all that clusters and checks need, and print their folder."""
    click.echo(binaries.folder(tool or binaries.COMMON))


@cluster.command()
@click.option("--cache", "caches", is_flag=True, help="Empty the caches too: all is built anew.")
def clean(caches: bool) -> None:
    """Stop and remove everything that these tools have started."""
    cleaning.clean(caches=caches)


@cluster.group()
def s3() -> None:
    """An S3 server for models, with access keys and policies."""


@s3.command("up")
@name_option
def s3_up(name: str) -> None:
    """Start the S3 server and print how to reach it."""
    server = S3Server(name)
    server.up()
    results.print(f"export AWS_ENDPOINT_URL={server.endpoint}")
    results.print(f"export AWS_ACCESS_KEY_ID={server.root.access}")
    results.print(f"export AWS_SECRET_ACCESS_KEY={server.root.secret}")
    results.print(f"export AWS_REGION={REGION}")


@s3.command("down")
@name_option
def s3_down(name: str) -> None:
    """Stop the S3 server and remove its objects."""
    S3Server(name).down()


def main() -> None:
    """Run the command; an expected failure is told in words, never as a stack trace."""
    # To clean up either way: what a shell runs in the background is not to be interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cluster(prog_name="dev/cluster")
    except DevError as error:
        console.print(f"[red]{escape(error.message)}[/red]")
        if error.hint:
            console.print(escape(error.hint))
        sys.exit(1)
