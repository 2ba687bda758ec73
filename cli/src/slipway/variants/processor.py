"""What this processor is, and whether it computes INT8 in one instruction."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


@dataclass(frozen=True)
class Processor:
    """Its name, and the flags that speak of INT8 dot products."""

    name: str
    int8: tuple[str, ...]

    def __str__(self) -> str:
        """Return it as part of a sentence."""
        return f"{self.name} ({', '.join(self.int8) or 'no INT8 dot products'})"


def here() -> Processor:
    """Return this machine's, as far as it tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Processor(platform.processor() or platform.machine(), ())
    return parse(text)


def parse(text: str) -> Processor:
    """Read the first processor of a /proc/cpuinfo."""
    first, _, _ = text.partition("\n\n")
    fields = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in first.splitlines())
    }
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    name = fields.get("model name") or platform.machine()
    return Processor(name, tuple(flag for flag in _INT8 if flag in flags))
