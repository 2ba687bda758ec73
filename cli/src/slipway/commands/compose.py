"""``slipway compose``: the served model without a cluster."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from slipway import files, terminal
from slipway.errors import InvalidArguments
from slipway.options import FILE, WRITTEN, json_option
from slipway.package import source
from slipway.package.manifest import is_digest
from slipway.serving.compose import Wanted, build, docker_run


@click.command("compose")
@click.argument("model", type=FILE, required=False)
@click.option("--uri", help="Where it is fetched from; default: MODEL itself, mounted read-only.")
@click.option("--digest", help="sha256:…; default: MODEL's.")
@click.option("--name", default="model", show_default=True, help="The model's name in requests.")
@click.option("--image", default="slipway/runtime:0.1.0", show_default=True, help="The runtime.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--memory", default="1g", show_default=True, help="Memory limit.")
@click.option("--cpus", default="1", show_default=True, help="CPU limit; also sets the threads.")
@click.option("--endpoint", help="URL of an S3-compatible server, as containers reach it.")
@click.option("--region", help="Region of the bucket.")
@click.option("--run", "as_lines", is_flag=True, help="Print docker run lines instead.")
@click.option("--out", type=WRITTEN, help="Write the compose file here.")
@json_option
def command(
    model: Path | None,
    uri: str | None,
    digest: str | None,
    name: str,
    image: str,
    port: int,
    memory: str,
    cpus: str,
    endpoint: str | None,
    region: str | None,
    as_lines: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Print a hardened docker-compose file for those with no cluster.

    Storage credentials are not written down: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are taken
    from whoever starts it, and only the fetching container gets them.
    """
    local = source.find(model) if model is not None else None
    digest = digest or (local.digest if local else None)
    if digest is None or not is_digest(digest):
        raise InvalidArguments("it is not known which digest is meant", "give MODEL or --digest")
    mount = None
    if uri is None:
        if local is None or local.manifest is not None:
            raise InvalidArguments(
                "it is not known where the model is", "give --uri, or a .onnx file"
            )
        mount = str(local.entry.resolve().parent)
        uri = f"file:///models/{local.entry.name}"
    wanted = Wanted(name, uri, digest, image, port, memory, cpus, endpoint, region, mount)
    if as_lines:
        lines = docker_run(wanted)
        if as_json:
            terminal.print_json(lines)
        else:
            click.echo("\n".join(lines))
        return
    composed = build(wanted)
    if out is not None:
        files.write(out, _yaml(composed).encode())
        terminal.note(f"wrote {out}")
    if as_json:
        terminal.print_json(composed)
    elif out is None:
        click.echo(_yaml(composed), nl=False)


def _yaml(content: dict[str, Any]) -> str:
    text = io.StringIO()
    writer: Any = YAML()
    writer.width = 4096
    writer.dump(content, text)
    return text.getvalue()
