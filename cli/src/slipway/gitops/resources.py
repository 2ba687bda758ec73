"""Resources that are proposed for a model. Pure; everything in bytes."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1024 * 1024
_STEP = 64 * _MIB
_SERVER = 128 * _MIB
"""What the server takes beside the model: protocols, metrics, requests under way."""
_LOADER = 96 * _MIB
"""What Python and ONNX Runtime take before a model is loaded; part of what is measured."""
_POOL_CACHE = 1024 * _MIB
"""Artifacts up to this need no word: pools give their cache volume at least as much."""


@dataclass(frozen=True)
class Proposal:
    """Quantities as Kubernetes writes them; ``cache`` only where the artifact is large."""

    request: str
    limit: str
    cache: str | None


def propose(size: int, peak: int | None) -> Proposal:
    """Propose memory for an artifact of ``size`` bytes with a measured ``peak``, if there is one.

    Without a measurement a model is taken to need twice its size: its weights once as they are in
    the file, and once more as ONNX Runtime packs them.
    """
    needed = (peak if peak is not None else _LOADER + 2 * size) + _SERVER
    cache = None if size <= _POOL_CACHE // 2 else _quantity(size + size // 10)
    return Proposal(_quantity(needed), _quantity(needed + needed // 2), cache)


def _quantity(count: int) -> str:
    """Round up to the next 64 MiB."""
    return f"{-(-count // _STEP) * _STEP // _MIB}Mi"
