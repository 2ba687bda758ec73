"""``slipway verify``: whether an artifact is still what its digest says."""

from __future__ import annotations

from pathlib import Path

import click

from slipway import files, terminal
from slipway.errors import Differs, InvalidArguments
from slipway.options import json_option, storage_options
from slipway.package import source
from slipway.package.manifest import FILE_NAME, is_digest
from slipway.storage.client import Location, Settings, connect
from slipway.storage.verify import Checked, digest_in, verify


@click.command("verify")
@click.argument("artifact")
@click.option(
    "--digest", help="What it must be; default: the digest in an S3 key, if there is one."
)
@storage_options
@json_option
def command(
    artifact: str,
    digest: str | None,
    endpoint: str | None,
    region: str | None,
    addressing_style: str,
    ca_bundle: Path | None,
    as_json: bool,
) -> int:
    """Read a package or .onnx file again, here or in S3, and compare digests.

    The exit code is 4 when something is not what it should be.
    """
    if digest is not None and not is_digest(digest):
        raise InvalidArguments(
            f"{digest!r} is no digest", "it is sha256: and 64 lower-case hexadecimal digits"
        )
    if artifact.startswith("s3://"):
        location = Location.parse(artifact)
        client = connect(Settings(endpoint, region, addressing_style, ca_bundle))
        checked = verify(client, location, digest or digest_in(location))
    else:
        checked = _local(Path(artifact), digest)
    good = not any(item.problem for item in checked)
    if as_json:
        terminal.print_json(
            {
                "artifact": artifact,
                "digest": checked[0].digest,
                "intact": good,
                "files": [vars(item) for item in checked],
            }
        )
    else:
        terminal.print_table(
            ("file", "size", "digest", ""),
            [(i.path, terminal.size(i.size), i.digest, i.problem or "ok") for i in checked],
        )
    return 0 if good else Differs.exit_code


def _local(path: Path, digest: str | None) -> list[Checked]:
    if path.is_file() and path.name != FILE_NAME:
        found = files.digest(path)
        wrong = "" if digest in (None, found) else f"is {found}, not {digest}"
        return [Checked(path.name, path.stat().st_size, found, wrong)]
    local = source.find(path)
    wrong = "" if digest in (None, local.digest) else f"is {local.digest}, not {digest}"
    problems = source.problems(local)
    return [
        Checked(local.entry_name, local.entry.stat().st_size, local.digest, wrong),
        *(Checked(f.path, f.size, f.digest, problems.get(f.path, "")) for f in local.files),
    ]
