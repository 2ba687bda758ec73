"""``slipway push``: an artifact to S3, under a key that never means anything else."""

from __future__ import annotations

from pathlib import Path

import click

from slipway import terminal
from slipway.commands import pushing
from slipway.options import FILE, json_option, storage_options
from slipway.storage.client import Settings


@click.command("push")
@click.argument("artifact", type=FILE)
@click.option("--to", required=True, help="Where: s3://BUCKET/PREFIX.")
@click.option(
    "--key",
    help="An exact key in that bucket instead of PREFIX/sha256/DIGEST/…; never overwritten either.",
)
@storage_options
@json_option
def command(
    artifact: Path,
    to: str,
    key: str | None,
    endpoint: str | None,
    region: str | None,
    addressing_style: str,
    ca_bundle: Path | None,
    as_json: bool,
) -> None:
    """Upload a package or a bare .onnx file to S3, and print its uri and digest.

    What is there already is not sent again, and an interrupted push goes on where it stopped.
    Other content under the same key is never overwritten (exit code 6). The entry, which makes the
    rest visible, comes last.
    """
    done = pushing.push(artifact, to, key, Settings(endpoint, region, addressing_style, ca_bundle))
    if as_json:
        terminal.print_json(
            {
                "uri": done.uri,
                "digest": done.digest,
                "size": done.size,
                "objects": [
                    {"uri": str(item.location), "size": item.size, "result": item.result}
                    for item in done.objects
                ],
            }
        )
        return
    for item in done.objects:
        terminal.note(f"{item.result}: {item.location} ({terminal.size(item.size)})")
    terminal.print_facts([("uri", done.uri), ("digest", done.digest)])
