"""``slipway push``: an artifact to S3, under a key that never means anything else."""

from __future__ import annotations

from pathlib import Path

import click

from slipway import terminal
from slipway.errors import InvalidArguments
from slipway.options import FILE, json_option, storage_options
from slipway.package import source
from slipway.storage.client import Location, Settings, connect
from slipway.storage.publish import place_by_digest, publish


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
    base = Location.parse(to)
    local = source.find(artifact)
    source.require_intact(local)
    entry = place_by_digest(base, local)
    if key is not None:
        if key.endswith("/") or key.startswith("/"):
            raise InvalidArguments(f"--key {key!r} must neither begin nor end with a slash")
        if local.manifest is not None and not key.endswith(f"/{local.entry_name}"):
            raise InvalidArguments(
                f"--key {key!r} is for a package, whose entry is {local.entry_name}",
                f"--key {key}/{local.entry_name}",
            )
        entry = Location(base.bucket, key)
    client = connect(Settings(endpoint, region, addressing_style, ca_bundle))
    with terminal.transfer_bar("pushing", local.size) as advance:
        pushed = publish(client, local, entry, advance)
    if as_json:
        terminal.print_json(
            {
                "uri": str(entry),
                "digest": local.digest,
                "size": local.size,
                "objects": [
                    {"uri": str(item.location), "size": item.size, "result": item.result}
                    for item in pushed
                ],
            }
        )
        return
    for item in pushed:
        terminal.note(f"{item.result}: {item.location} ({terminal.size(item.size)})")
    terminal.print_facts([("uri", str(entry)), ("digest", local.digest)])
