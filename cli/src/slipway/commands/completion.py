"""``slipway completion``: the script that makes a shell complete slipway's commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_HINTS = {
    "bash": 'eval "$(slipway completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(slipway completion zsh)"  in ~/.zshrc',
    "fish": "slipway completion fish > ~/.config/fish/completions/slipway.fish",
}


@click.command(
    "completion", epilog="\b\n" + "\n".join(f"{shell}: {hint}" for shell, hint in _HINTS.items())
)
@click.argument("shell", type=click.Choice(list(_HINTS)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, "slipway", "_SLIPWAY_COMPLETE")
    click.echo(script.source())
