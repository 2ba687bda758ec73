"""The order of the tests without a cluster."""

from __future__ import annotations

import pytest

# They need programs that a fresh machine builds meanwhile, for some minutes.
_LAST = {"chart", "test_h2spec.py", "test_grpc_clients.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let those that may have to wait come last."""
    items.sort(key=lambda item: not _LAST.isdisjoint(item.path.parts))
