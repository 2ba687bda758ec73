"""Entry point of the ``slipway`` command."""

import click


@click.group()
@click.version_option(package_name="slipway", prog_name="slipway")
def main() -> None:
    """Package ONNX models and hand their digests to Git."""
