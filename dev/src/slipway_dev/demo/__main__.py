"""``make demo`` and ``make demo-down``."""

from __future__ import annotations

import sys

import click
from rich.markup import escape

from slipway_dev import binaries
from slipway_dev.console import console, results
from slipway_dev.demo.story import NAME, NAMESPACE, Story
from slipway_dev.errors import DevError
from slipway_dev.testbed import Testbed

CLUSTER = "demo"


@click.group()
def demo() -> None:
    """Serve a model on a real cluster on this machine."""


@demo.command()
def up() -> None:
    """Bring everything up and tell the story; what is up already is used again."""
    testbed = Testbed(CLUSTER)
    sizes = testbed.up()
    for image, size in sizes.items():
        results.print(f"{image}: {size / 1_000_000:.0f} MB")
    Story(testbed).tell()
    tools = binaries.folder(["kubectl", "helm"])
    results.print(
        f"""
[bold]The cluster stays up for you.[/bold] To look around:

  export KUBECONFIG={testbed.cluster.kubeconfig} PATH={tools}:$PATH
  kubectl get modeldeployments -A
  kubectl describe modeldeployment {NAME} -n {NAMESPACE}
  kubectl scale modeldeployment {NAME} -n {NAMESPACE} --replicas=3
  curl -s http://{testbed.service_address(NAMESPACE, NAME)}/v2/models/{NAME}
  kubectl logs -n slipway-system deployment/slipway

make demo-down removes all of it."""
    )


@demo.command()
def down() -> None:
    """Remove the demo's cluster and everything that belongs to it."""
    Testbed(CLUSTER).down()


def main() -> None:
    """Run the command; an expected failure is told in words, never as a stack trace."""
    try:
        demo(prog_name="slipway-demo")
    except DevError as error:
        console.print(f"[red]{escape(error.message)}[/red]")
        if error.hint:
            console.print(escape(error.hint))
        sys.exit(1)


if __name__ == "__main__":
    main()
