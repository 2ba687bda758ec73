"""Finds revisions whose operator labels were removed.

Watches and lists go by label, so such a ControllerRevision is invisible. It is looked for by its
owner, and only when it matters: before a failed rollout is recorded as one with nothing to return
to, or a revision that a person asks for as unknown.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.reconcile.kinds import CONTROLLER_REVISION, Kind
from slipway_operator.reconcile.observe import controlled_by
from slipway_operator.reconcile.store import Store


class _Lister(Protocol):
    def pages(
        self, kind: Kind, namespace: str | None, label_selector: str | None
    ) -> AsyncIterator[tuple[list[Json], str]]: ...


class LostRevisions:
    """Looks for the revisions of one ModelDeployment, whatever their labels."""

    def __init__(self, lister: _Lister, store: Store) -> None:
        self._lister = lister
        self._store = store

    async def found(self, model: ModelDeployment) -> bool:
        """Take those that were not known into the store; whether there were any.

        Raises:
            ApiError, TransportError: they could not be listed.
        """
        known = self._store.get(model.key, CONTROLLER_REVISION)
        pages = self._lister.pages(CONTROLLER_REVISION, model.namespace, None)
        lost = [
            revision
            async for page, _ in pages
            for revision in page
            if controlled_by(revision, model.uid) and revision["metadata"]["name"] not in known
        ]
        for revision in lost:
            self._store.confirm(CONTROLLER_REVISION, revision)
        return bool(lost)
