"""What the end-to-end fixtures hand to tests."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_dev.testbed import Testbed


@dataclass(frozen=True)
class Installed:
    testbed: Testbed
    image_sizes: dict[str, int]
