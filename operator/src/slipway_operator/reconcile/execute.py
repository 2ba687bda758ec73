"""Carries out a plan, in its order: stuck pods, records, children, removals, Events, status."""

import hashlib
import json
import logging
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

from slipway_operator.api.conditions import READY, find
from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.names import (
    ANNOTATION_EVIDENCE,
    ANNOTATION_OUTCOME,
    API_VERSION,
    FIELD_MANAGER,
    KIND,
)
from slipway_operator.api.status import Outcome
from slipway_operator.reconcile import kinds
from slipway_operator.reconcile.contention import Contention, rivals
from slipway_operator.reconcile.decide import timestamp
from slipway_operator.reconcile.difference import needs_apply, taken_over
from slipway_operator.reconcile.event_budget import EventBudget
from slipway_operator.reconcile.kinds import Kind
from slipway_operator.reconcile.kube import ApiError, KubeClient, TransportError
from slipway_operator.reconcile.noise import without_noise
from slipway_operator.reconcile.observation import Impediment, Observation, Obstacle
from slipway_operator.reconcile.observe import controlled_by
from slipway_operator.reconcile.plan import Event, Plan, RevisionMark
from slipway_operator.reconcile.store import Store

logger = logging.getLogger(__name__)

_REFUSALS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
_IN_THE_WAY = (Impediment.NAME_CONFLICT.value, Impediment.NAMESAKE_DELETING.value)
_UNDECLARED = "failed to create typed patch object"  # a misspelt field, reported with status 500
_ENDING = ("being terminated", "definition is terminating")  # a namespace, a kind
_TOLD = 1024  # characters of a refusal: some repeat the whole object


class StaleError(Exception):
    """The store was behind the cluster and has caught up: observe and decide again."""


class _ObstacleError(Exception):
    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle.message)
        self.obstacle = obstacle


class Executor:
    """Writes what a plan asks for; every answer goes into the store."""

    def __init__(
        self,
        kube: KubeClient,
        store: Store,
        contention: Contention,
        clock: Callable[[], datetime],
        judged: Callable[[str, str], None] = lambda _outcome, _reason: None,
        told: Callable[[bool], None] = lambda _sent: None,
        budget: EventBudget | None = None,
    ) -> None:
        """``judged`` gets the outcome and the reason of each verdict that was recorded, and
        ``told``, for each Event, whether it was sent or left out.
        """
        self._kube = kube
        self._store = store
        self._contention = contention
        self._clock = clock
        self._judged = judged
        self._told = told
        self._budget = budget or EventBudget()

    async def execute(self, plan: Plan, obs: Observation) -> Obstacle | None:
        """Carry out a plan.

        Returns:
            What stood in the way of a child, if anything did; the status is then not written. When
            another writer contends for a child, the rest of the plan was carried out all the same.

        Raises:
            StaleError: something differs from what the plan was made from.
            ApiError, TransportError: the API server fails; try again later.
            NotLeaderError: this process may not write.
        """
        for kind in plan.surely_absent:
            await self._confirm_absence(kinds.BY_NAME[kind], obs.model)
        children = [child for child in plan.children if self._to_write(child, obs)]
        if children or plan.changes_the_cluster:
            await self._confirm(obs.model)
        try:
            # Before the retry is recorded: after a crash in between it is still to be done.
            await self._replace_pods(plan, obs)
            if plan.new_revision is not None:
                await self._create(kinds.CONTROLLER_REVISION, plan.new_revision, obs.model)
            for mark in plan.marks:
                await self._mark(mark, obs)
            for child in children:
                await self._bring(child, obs)
            await self._remove(plan, obs)
        except _ObstacleError as error:
            return error.obstacle
        if (fought := self._fought_over(plan, obs.model)) is not None:
            return fought
        # Before the status, whose change they report: after a crash in between they are sent once
        # more, under the same name, and never lost.
        for event in plan.events:
            allowed = self._budget.allows(obs.model.uid, warning=event.type == "Warning")
            self._told(allowed and await self._tell(event, obs.model))
        if plan.status is not None and plan.status != obs.model.status:
            await self._report(plan.status, obs.model)
        return None

    def _to_write(self, child: Json, obs: Observation) -> bool:
        """Whether a child must be created or applied, and is not left to somebody else."""
        known = obs.children.get(child["kind"])
        if known is None:
            return True
        about = (obs.model.uid, child["kind"])
        if not needs_apply(child, known):
            self._contention.agrees(about)
            return False
        return not self._contention.yields(about, rivals(child, known))

    def _fought_over(self, plan: Plan, model: ModelDeployment) -> Obstacle | None:
        found = (
            self._contention.obstacle((model.uid, child["kind"]), child["metadata"]["name"])
            for child in plan.children
        )
        return next((obstacle for obstacle in found if obstacle is not None), None)

    async def _confirm(self, model: ModelDeployment) -> None:
        """Go on only if the live ModelDeployment is the one that was decided about.

        Watches of different kinds are not ordered: a new leader may have seen what the old one
        wrote to the children and not yet the spec that it was written for.
        """
        known = self._store.model(model.key)
        live = await self._refresh(kinds.MODEL_DEPLOYMENT, model, model.name)
        if (
            known is None
            or live is None
            or live["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"]
        ):
            raise StaleError

    async def _confirm_absence(self, kind: Kind, model: ModelDeployment) -> None:
        live = await self._kube.get(kind, model.namespace, model.name)
        if live is not None and controlled_by(live, model.uid):
            self._store.confirm(kind, live)
            raise StaleError

    async def _create(self, kind: Kind, obj: Json, model: ModelDeployment) -> None:
        name: str = obj["metadata"]["name"]
        told = find(model.status.get("conditions") or [], READY).get("reason")
        if told in _IN_THE_WAY:
            # It is probably still there: checking first costs no write.
            await self._find_place_free(kind, name, model)
        try:
            self._store.put(kind, await self._kube.create(kind, obj))
            self._log("created", kind, name, model)
        except ApiError as error:
            if error.status == HTTPStatus.CONFLICT:
                await self._find_place_free(kind, name, model)
                raise StaleError from error
            raise self._refusal(kind, name, error) from error

    async def _find_place_free(self, kind: Kind, name: str, model: ModelDeployment) -> None:
        """Return if no object has that name; raise what its presence means otherwise."""
        live = await self._kube.get(kind, model.namespace, name)
        if live is None:
            return
        if controlled_by(live, model.uid):
            self._store.confirm(kind, live)
            raise StaleError
        owners = live["metadata"].get("ownerReferences") or ()
        if any(r["kind"] == KIND and r["name"] == model.name for r in owners):
            raise _ObstacleError(
                Obstacle(
                    Impediment.NAMESAKE_DELETING,
                    f"waiting until the {kind.name} '{name}' of a deleted ModelDeployment of the "
                    "same name is gone",
                )
            )
        raise _ObstacleError(
            Obstacle(
                Impediment.NAME_CONFLICT,
                f"a {kind.name} '{name}' that does not belong to this ModelDeployment exists: "
                "remove or rename it, or give the ModelDeployment another name",
            )
        )

    @staticmethod
    def _refusal(kind: Kind, name: str, error: ApiError, what: str = "") -> Exception:
        told = without_noise(str(error))[:_TOLD]
        misspelt = _UNDECLARED in str(error)
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR and not misspelt:
            return _ObstacleError(
                Obstacle(
                    Impediment.FAILING, f"the API server fails on the {kind.name} '{name}': {told}"
                )
            )
        if not (misspelt or error.status in _REFUSALS) or any(
            sign in str(error) for sign in _ENDING
        ):
            return error
        return _ObstacleError(
            Obstacle(
                Impediment.REJECTED,
                f"the API server refuses {what}the {kind.name} '{name}': {told}",
            )
        )

    async def _mark(self, mark: RevisionMark, obs: Observation) -> None:
        known = next((r for r in obs.revisions if r.object_name == mark.object_name), None)
        patch: Json = {"metadata": {"annotations": mark.annotations}}
        if mark.labels:
            patch["metadata"]["labels"] = mark.labels
        if known is not None:
            patch["metadata"]["resourceVersion"] = known.resource_version
        if mark.number is not None:
            patch["revision"] = mark.number
        kind, namespace = kinds.CONTROLLER_REVISION, obs.model.namespace
        try:
            written = await self._kube.merge(kind, namespace, mark.object_name, patch)
        except ApiError as error:
            if error.status not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                raise self._refusal(kind, mark.object_name, error) from error
            await self._refresh(kind, obs.model, mark.object_name)
            raise StaleError from error
        self._store.put(kind, written)
        verdict = mark.annotations.get(ANNOTATION_OUTCOME)
        self._log("recorded", kind, mark.object_name, obs.model, verdict=verdict)
        if verdict in (Outcome.GOOD, Outcome.FAILED):
            recorded = json.loads(mark.annotations.get(ANNOTATION_EVIDENCE) or "{}")
            self._judged(str(verdict), recorded.get("reason", ""))

    async def _refresh(self, kind: Kind, model: ModelDeployment, name: str) -> Json | None:
        """Bring one object in the store up to date."""
        live = await self._kube.get(kind, model.namespace, name)
        if live is not None:
            self._store.confirm(kind, live)
            return live
        gone = self._store.get(model.key, kind).get(name)
        if gone is not None:
            self._store.remove(kind, gone)
        return None

    async def _bring(self, child: Json, obs: Observation) -> None:
        """Create or apply one child."""
        kind, name = kinds.BY_NAME[child["kind"]], child["metadata"]["name"]
        known = obs.children.get(kind.name)
        if known is None:
            await self._create(kind, child, obs.model)
            return
        # Every write is conditional on the object that was decided about: if it changed meanwhile,
        # for example through an autoscaler, it is observed again.
        namespace, version = obs.model.namespace, known["metadata"]["resourceVersion"]
        try:
            if (managed := taken_over(known)) is not None:
                patch = {"metadata": {"resourceVersion": version, "managedFields": managed}}
                taken = await self._kube.merge(kind, namespace, name, patch)
                self._store.put(kind, taken)
                version = taken["metadata"]["resourceVersion"]
            conditional = {**child, "metadata": {**child["metadata"], "resourceVersion": version}}
            applied = await self._kube.apply(kind, conditional, known["metadata"]["uid"])
        except ApiError as error:
            if error.status in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                await self._refresh(kind, obs.model, name)
                raise StaleError from error
            raise self._refusal(kind, name, error) from error
        self._store.put(kind, applied)
        self._contention.overwrote((obs.model.uid, kind.name), rivals(child, known))
        self._log("applied", kind, name, obs.model)

    async def _remove(self, plan: Plan, obs: Observation) -> None:
        namespace = obs.model.namespace
        for kind_name in plan.delete_children:
            kind, child = kinds.BY_NAME[kind_name], obs.children[kind_name]
            left = await self._delete(
                kind, namespace, child["metadata"]["name"], child["metadata"]["uid"]
            )
            if left is None:
                self._store.remove(kind, child)
            else:
                # A finalizer holds it.
                self._store.put(kind, left)
            self._log("deleted", kind, child["metadata"]["name"], obs.model)
        for revision in obs.revisions:
            if revision.object_name in plan.delete_revisions:
                await self._try_to_delete(
                    kinds.CONTROLLER_REVISION, namespace, revision.object_name, revision.uid
                )

    async def _delete(self, kind: Kind, namespace: str, name: str, uid: str | None) -> Json | None:
        try:
            return await self._kube.delete(kind, namespace, name, uid)
        except ApiError as error:
            raise self._refusal(kind, name, error, "to delete ") from error

    async def _try_to_delete(self, kind: Kind, namespace: str, name: str, uid: str | None) -> bool:
        """Delete what nothing else depends on: a refusal is logged, and retried next time."""
        try:
            await self._delete(kind, namespace, name, uid)
        except _ObstacleError as refused:
            logger.warning("not deleted", extra={"kind": kind.name, "error": str(refused)})
            return False
        return True

    async def _replace_pods(self, plan: Plan, obs: Observation) -> None:
        """Delete pods, and forget them at once: they no longer count."""
        for pod in obs.pods:
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            if (name, uid) in plan.delete_pods and await self._try_to_delete(
                kinds.POD, obs.model.namespace, name, uid
            ):
                self._store.remove(kinds.POD, pod)

    async def _report(self, status: Json, model: ModelDeployment) -> None:
        body: Json = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": model.name,
                "namespace": model.namespace,
                # As decided about: a leader that was suspended must not report an old state.
                "resourceVersion": model.resource_version,
            },
            "status": status,
        }
        try:
            written = await self._kube.apply(
                kinds.MODEL_DEPLOYMENT, body, model.uid, subresource="/status"
            )
        except ApiError as error:
            # The object, or this uid of it, is gone.
            other_uid = error.status == HTTPStatus.UNPROCESSABLE_ENTITY and "metadata.uid" in str(
                error
            )
            if error.status in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND) or other_uid:
                await self._refresh(kinds.MODEL_DEPLOYMENT, model, model.name)
                raise StaleError from error
            raise
        self._store.put(kinds.MODEL_DEPLOYMENT, written)
        ready = find(status["conditions"], READY)
        serving: Json = status.get("serving") or {}
        self._log(
            "reported",
            kinds.MODEL_DEPLOYMENT,
            model.name,
            model,
            ready=ready.get("status"),
            reason=ready.get("reason"),
            serving=serving.get("version"),
        )

    @staticmethod
    def _log(verb: str, kind: Kind, name: str, model: ModelDeployment, **more: str | None) -> None:
        """Every write leaves one line, with the key of the ModelDeployment it was for."""
        logger.info(
            "%s %s %s",
            verb,
            kind.name,
            name,
            extra={"model": f"{model.namespace}/{model.name}", **more},
        )

    async def _tell(self, event: Event, model: ModelDeployment) -> bool:
        """Send an Event; whether it is there now. One that cannot be sent stops nothing: it tells
        what the status says too.
        """
        now = timestamp(self._clock())
        body: Json = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": _event_name(event, model),
                "namespace": model.namespace,
            },
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": model.name,
                "namespace": model.namespace,
                "uid": model.uid,
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:1024],
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._kube.create(kinds.EVENT, body)
        except (ApiError, TransportError) as error:
            if isinstance(error, ApiError) and error.status == HTTPStatus.CONFLICT:
                return True
            logger.warning(
                "an Event could not be sent",
                extra={"reason": event.reason, "error": str(error)[:_TOLD]},
            )
            return False
        return True


def _event_name(event: Event, model: ModelDeployment) -> str:
    """The same for the same change of the same status, so that no Event is sent twice."""
    about = f"{model.uid}/{model.resource_version}/{event.type}/{event.reason}"
    return f"{model.name}.{hashlib.sha256(about.encode()).hexdigest()[:16]}"
