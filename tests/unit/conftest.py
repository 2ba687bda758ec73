"""The order of the tests without a cluster, and what is timed of them."""

from __future__ import annotations

import pytest

# Fixtures of programs that a fresh machine builds meanwhile, for minutes.
_BUILT = {"helm", "promtool", "grpcurl", "tritongo", "h2spec"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files come last whose tests may have to wait for a program; do not time the wait."""
    waiting = [item for item in items if not _BUILT.isdisjoint(_fixtures(item))]
    for item in waiting:
        item.add_marker(pytest.mark.timeout(func_only=True))
    files = {item.path for item in waiting}
    items.sort(key=lambda item: item.path in files)


def _fixtures(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []
