"""While a target is rolled out the status tells how far its pods are, without steady writes."""

import json

import pytest
from fake_cluster import pods, samples
from fake_cluster.world import World

from slipway_operator.reconcile.fetch_log import told_in
from slipway_operator.reconcile.kinds import DEPLOYMENT
from slipway_operator.reconcile.kinds import POD as _POD
from slipway_operator.reconcile.progress import Fetched, Phase, phase_of

NOW = "2026-11-21T12:00:00Z"


def pod(behaviour: pods.Behaviour) -> dict:
    return {"metadata": {"name": "p", "uid": "u"}, "status": behaviour(NOW)}


@pytest.mark.parametrize(
    ("behaviour", "phase"),
    [
        (pods.unschedulable, Phase.PENDING),
        (pods.creating, Phase.PENDING),
        (pods.fetching, Phase.FETCHING),
        (pods.loading, Phase.LOADING),
        (pods.ready, Phase.READY),
        (pods.fetch_ends(31), Phase.FAILING),
        (pods.serve_ends(139, restarts=1), Phase.FAILING),
        (pods.waits("ImagePullBackOff"), Phase.FAILING),
        (pods.evicted, Phase.FAILING),
    ],
)
def test_the_phase_of_a_pod(behaviour: pods.Behaviour, phase: Phase):
    assert phase_of(pod(behaviour)) is phase


def test_a_pod_that_is_started_once_more_still_counts_as_failing():
    again = pods.serve_ends(139, restarts=2)(NOW)
    (serve,) = again["containerStatuses"]
    serve["lastState"], serve["state"] = serve["state"], {"running": {"startedAt": NOW}}
    assert phase_of({"metadata": {"name": "p"}, "status": again}) is Phase.FAILING


@pytest.mark.parametrize(
    ("fetched", "words"),
    [
        (Fetched(4_120_000_000, 12_000_000_000), "4.1 of 12.0 GB"),
        (Fetched(512_000, 48_000_000), "0.5 of 48.0 MB"),
        (Fetched(7_500_000), "7.5 MB"),
    ],
)
def test_how_far_a_download_is_in_words(fetched: Fetched, words: str):
    assert str(fetched) == words


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", None),
        ("plain text\n", None),
        ('{"message": "fetching"}\n', None),
        ('{"fetched_bytes": "many"}', None),
        ('{"fetched_bytes": -1}', None),
        ('{"fetched_bytes": 5, "total_bytes": null}', Fetched(5)),
        ('{"fetched_bytes": 5, "total_bytes": 4}', Fetched(5)),
        ('{"fetched_bytes": 1, "total_bytes": 9}\n{"fetched_bytes": 8, "total_bytes": 9}\n{"fet',
         Fetched(8, 9)),
        ("[1]\n7\n", None),
    ],
)  # fmt: skip
def test_the_count_is_read_from_the_runtimes_log(log: str, told: Fetched | None):
    assert told_in(log) == told


async def stand(world: World) -> dict:
    """Reconcile until nothing more happens, without moving time."""
    await world.run()
    return world.status


class TestAFirstRollout:
    async def test_says_how_many_pods_are_where(self, world: World):
        world.behaviours["a"] = pods.fetching
        world.apply(digest=samples.A, replicas=2)
        await world.run()
        world.advance(6)
        status = await stand(world)
        assert status["progress"] == {
            "pending": 0, "fetching": 2, "loading": 0, "ready": 0, "failing": 0,
        }  # fmt: skip
        message = world.condition("Ready")["message"]
        assert message == "waiting for the first ready pod of aaaaaaaaaaaa; 2 fetching"

    async def test_with_one_pod_of_two_ready_speaks_of_available_and_not_of_replaced(
        self, world: World
    ):
        world.behaviours["a"] = pods.fetching
        world.apply(digest=samples.A, replicas=2)
        await world.run()
        first = world.api.of_kind(_POD)[0]["metadata"]["name"]
        world.advance(6)
        world.report_alone(first, pods.ready)
        await world.run()
        ready = world.condition("Ready")
        assert (ready["status"], ready["reason"]) == ("Unknown", "Deploying")
        assert ready["message"] == "1 of 2 pods of aaaaaaaaaaaa available; 1 fetching"

    async def test_says_nothing_of_progress_once_it_is_complete(self, world: World):
        world.apply(digest=samples.A)
        assert "progress" not in await stand(world)


async def test_a_later_rollout_says_what_the_new_pod_does(world: World):
    world.apply(digest=samples.A)
    await world.run()
    world.behaviours["b"] = pods.loading
    world.apply(digest=samples.B)
    await world.run()
    world.advance(6)
    await world.run()
    message = world.condition("Ready")["message"]
    assert message == "rolling out bbbbbbbbbbbb: 1 of 1 pods replaced; 1 loading"
    assert world.status["progress"]["loading"] == 1


async def test_a_later_rollout_stays_one_when_the_last_old_pod_is_gone(world: World):
    world.apply(digest=samples.A)
    await world.run()
    world.apply(digest=samples.B)
    await world.reconcile()
    world.controllers()

    def not_available_yet(deployment: dict) -> None:
        deployment["status"] |= {"availableReplicas": 0, "conditions": []}

    world.change(DEPLOYMENT, not_available_yet)
    await world.reconcile()
    assert world.condition("Ready")["reason"] == "RollingOut"
    assert world.status["serving"]["digest"] == samples.B


async def test_steps_that_are_nothing_but_progress_are_written_every_few_seconds_only(
    world: World,
):
    world.behaviours["a"] = pods.creating
    world.apply(digest=samples.A)
    await world.run()
    written = len(_reports(world))
    world.behaviours["a"] = pods.fetching
    await world.run()
    assert len(_reports(world)) == written
    due = world.results[-1].requeue_after
    assert due is not None
    assert due <= 5
    world.advance(due)
    await world.run()
    assert len(_reports(world)) == written + 1
    assert world.status["progress"]["fetching"] == 1


async def test_what_a_program_acts_on_is_never_held_back(world: World):
    world.behaviours["a"] = pods.fetching
    world.apply(digest=samples.A)
    await world.run()
    world.behaviours["a"] = pods.fetch_ends(31, "403")
    await world.run()
    assert world.condition("Ready")["reason"] == "AccessDenied"


def _reports(world: World) -> list:
    return [write for write in world.api.writes if write.verb == "apply/status"]


def line(count: int, total: int = 1000) -> str:
    return json.dumps({"message": "fetched", "fetched_bytes": count, "total_bytes": total}) + "\n"


class TestBytes:
    @pytest.fixture
    def world(self) -> World:
        world = World(samples.settings(fetchProgress=True))
        world.behaviours["a"] = pods.fetching
        return world

    async def test_are_shown_where_that_is_configured(self, world: World):
        world.api.fetch_log = line(250)
        world.apply(digest=samples.A)
        await world.run()
        world.advance(10)
        await world.run()
        assert world.status["progress"]["fetchedBytes"] == 250
        assert world.status["progress"]["totalBytes"] == 1000
        assert "1 fetching (0.0 of 0.0 MB)" in world.condition("Ready")["message"]

    async def test_are_looked_at_again_every_ten_seconds_while_a_pod_fetches(self, world: World):
        world.apply(digest=samples.A)
        await world.run()
        read = world.api.log_reads
        for _ in range(5):
            await world.reconcile()
        assert world.api.log_reads == read
        assert (world.results[-1].requeue_after or 99) <= 10
        world.advance(10)
        await world.reconcile()
        assert world.api.log_reads == read + 1
        world.behaviours["a"] = pods.ready
        await world.run()
        read = world.api.log_reads
        world.advance(60)
        await world.run()
        assert world.api.log_reads == read
        assert world.results[-1].requeue_after is None

    async def test_change_the_status_in_steps_of_a_tenth(self, world: World):
        world.apply(digest=samples.A)
        await world.run()
        world.advance(10)
        await world.run()
        before = len(_reports(world))
        for count in range(100, 1000, 9):
            world.api.fetch_log = line(count)
            world.advance(10)
            await world.run()
        # A thousand seconds: ten steps, and every minute at most one where that is more.
        assert len(_reports(world)) - before <= 1000 / 60 + 1

    async def test_are_not_needed_where_the_right_is_missing(self, world: World):
        world.api.fetch_log = None
        world.apply(digest=samples.A)
        await world.run()
        assert "fetchedBytes" not in world.status["progress"]

    async def test_are_never_read_where_that_is_not_configured(self):
        world = World()
        world.behaviours["a"] = pods.fetching
        world.apply(digest=samples.A)
        await world.run()
        world.advance(60)
        await world.run()
        assert world.api.log_reads == 0
        assert world.results[-1].requeue_after is None


class TestADeadlineThatPasses:
    async def test_says_that_pods_were_still_fetching_and_for_how_long(self, world: World):
        world.apply(digest=samples.A)
        await world.run()
        world.behaviours["b"] = pods.fetching_since
        world.apply(digest=samples.B)
        await world.run()
        world.pass_deadline()
        await world.run()
        assert world.condition("Stalled")["reason"] == "RolledBack"
        told = world.status["lastFailure"]
        assert told["reason"] == "ProgressDeadlineExceeded"
        assert told["message"] == (
            "no pod became available within spec.rollout.progressDeadlineSeconds (600 s): 1 of 1 "
            "pods still fetching the artifact after 601 s; raise it if they need longer"
        )

    async def test_says_how_far_they_were_where_that_is_known(self):
        world = World(samples.settings(fetchProgress=True))
        world.api.fetch_log = line(4_100_000_000, 12_000_000_000)
        world.behaviours["a"] = pods.fetching_since
        world.apply(digest=samples.A)
        await world.run()
        world.pass_deadline()
        await world.run()
        assert (
            "still fetching the artifact after 601 s (4.1 of 12.0 GB)"
            in (world.status["lastFailure"]["message"])
        )

    @pytest.mark.parametrize(
        ("behaviour", "words"),
        [
            (pods.loading, "1 of 1 pods still loading the model"),
            (pods.creating, "1 of 1 pods not started yet"),
        ],
    )
    async def test_says_what_else_they_were_doing(
        self, world: World, behaviour: pods.Behaviour, words: str
    ):
        world.behaviours["a"] = behaviour
        world.apply(digest=samples.A)
        await world.run()
        world.pass_deadline()
        await world.run()
        assert words in world.status["lastFailure"]["message"]


class TestACrash:
    async def test_names_the_pod_and_where_its_log_is(self, world: World):
        world.behaviours["a"] = pods.serve_ends(139, None, restarts=1)
        world.apply(digest=samples.A)
        await world.run()
        (crashed,) = world.api.of_kind(_POD)
        name = crashed["metadata"]["name"]
        assert world.condition("Ready")["reason"] == "Crash"
        assert world.condition("Ready")["message"].endswith(
            "container 'serve' ended with exit code 139; "
            f"its log: kubectl logs -n payments {name} -c serve --previous"
        )

    async def test_after_a_rollback_names_the_pod_that_is_gone(self, world: World):
        world.apply(digest=samples.A)
        await world.run()
        world.behaviours["b"] = pods.serve_ends(139, None, restarts=3)
        world.apply(digest=samples.B)
        await world.run()
        pod_name = world.status["lastFailure"]["pod"]
        assert (
            f"(pod {pod_name}, which is gone). rolled back" in (world.condition("Ready")["message"])
        )

    async def test_of_two_pods_that_crash_in_turn_changes_no_status(self, world: World):
        world.settings = samples.settings(ambiguousRestarts=99)
        world.restart()
        world.behaviours["a"] = pods.serve_ends(139, None, restarts=1)
        world.apply(digest=samples.A, replicas=2)
        await world.run()
        world.advance(10)
        await world.run()
        first, second = (p["metadata"]["name"] for p in world.api.of_kind(_POD))
        written = len(_reports(world))
        for count in range(2, 6):
            world.report_alone(first, pods.serve_ends(139, None, restarts=count))
            await world.run()
            world.advance(60)
            world.report_alone(second, pods.serve_ends(139, None, restarts=count))
            await world.run()
        assert len(_reports(world)) == written

    async def test_without_an_exit_code_speaks_of_the_startup_time(self, world: World):
        world.behaviours["a"] = pods.serve_ends(0, None, restarts=1)
        world.apply(digest=samples.A)
        await world.run()
        assert "spec.runtime.startupTimeoutSeconds" in world.condition("Ready")["message"]
