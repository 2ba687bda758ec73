"""The ConfigMap is a configuration that the operator takes, and says what the values say."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from slipway_operator.api.settings import Pool, Proxy, Settings, load_settings

INSTALLS = ["default", "namespaced", "ha", "gpu", "integrations"]


@pytest.fixture
def settings(render, pick, tmp_path: Path) -> Callable[..., Settings]:
    def load(values=None, ci=None) -> Settings:
        file = tmp_path / "config.yaml"
        file.write_text(
            pick(render(values, ci), "ConfigMap", name="slipway")["data"]["config.yaml"]
        )
        return load_settings(file)

    return load


@pytest.mark.parametrize("ci", INSTALLS)
def test_the_operator_loads_what_the_chart_writes(settings, ci):
    assert settings(ci=ci).pools


def test_every_setting_of_the_operator_is_in_the_chart(render, pick):
    written = yaml.safe_load(pick(render(), "ConfigMap")["data"]["config.yaml"])

    def by_alias(model) -> set[str]:
        return {field.alias for field in model.model_fields.values()}

    assert set(written) == by_alias(Settings)
    assert set(written["leaderElection"]) == by_alias(
        Settings.model_fields["leader_election"].annotation
    )
    # Empty or 0 by default, and left out then.
    left_out = {"imagePullSecrets", "runtimeClassName", "startupTimeoutSeconds"}
    assert set(written["pools"]["cpu"]) == by_alias(Pool) - left_out


def test_the_operator_leads_by_a_lease_of_its_own_release(settings):
    lease = settings().leader_election
    assert (lease.namespace, lease.name) == ("slipway-system", "slipway")
    assert lease.retry_period_seconds < lease.renew_deadline_seconds < lease.duration_seconds


def test_pull_secrets_of_all_pools_and_of_one_come_together(settings):
    pools = settings(
        {
            "runtime": {"imagePullSecrets": [{"name": "mirror"}]},
            "pools": {"gpu": {"imagePullSecrets": [{"name": "nvidia"}, {"name": "mirror"}]}},
        }
    ).pools
    names = {pool: [s.name for s in pools[pool].image_pull_secrets] for pool in ("cpu", "gpu")}
    assert names == {"cpu": ["mirror"], "gpu": ["mirror", "nvidia"]}


def test_the_cpu_pool_takes_any_node_and_has_a_gapless_rollout(settings):
    pool = settings().pools["cpu"]
    assert pool.node_selector == {}
    assert pool.providers == ["CPUExecutionProvider"]
    assert (pool.rollout.max_surge, pool.rollout.max_unavailable) == (1, 0)


def test_the_gpu_pool_asks_for_a_gpu_and_needs_none_to_spare(settings):
    pool = settings().pools["gpu"]
    assert pool.providers == ["CUDAExecutionProvider"]
    assert pool.resources.limits["nvidia.com/gpu"] == 1
    assert pool.node_selector == {"slipway.dev/pool": "gpu"}
    assert pool.tolerations == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert (pool.rollout.max_surge, pool.rollout.max_unavailable) == (0, 1)
    assert pool.image == "slipway-runtime-gpu:0.1.0"


def test_a_pool_may_prefer_providers_beside_the_one_that_it_requires(settings):
    assert [pool.preferred_providers for pool in settings().pools.values()] == [[], []]
    trt = "TensorrtExecutionProvider"
    pool = settings({"pools": {"gpu": {"preferredProviders": [trt]}}}).pools["gpu"]
    assert (pool.preferred_providers, pool.providers) == ([trt], ["CUDAExecutionProvider"])


def test_a_pool_set_to_null_is_gone_and_another_may_be_added(settings):
    pools = settings(ci="gpu").pools
    assert set(pools) == {"gpu", "gpu-large"}
    assert pools["gpu-large"].rollout.max_unavailable == "50%"
    assert pools["gpu"].runtime_class_name == "nvidia"


@pytest.mark.parametrize(
    "values",
    [
        {"watch": {"namespaces": None, "selector": None}},
        {"controller": {"workers": None, "logFormat": None, "fetchProgress": None}},
        {"controller": {"leaderElection": {"renewDeadlineSeconds": None}}},
        {"controller": {"leaderElection": None}},
        {"proxy": None},
        {"modelNetworkPolicy": None},
        {"podLabels": None},
        {"pools": {"cpu": {"cacheSize": None, "runAsUser": None, "rollout": None}}},
    ],
    ids=str,
)
def test_a_value_set_to_null_is_the_operators_default(settings, values):
    default = Settings.model_validate({"pools": {"cpu": {"image": "x"}}})
    made = settings(values)
    for name in ("workers", "log_format", "namespaces", "selector", "fetch_progress", "proxy"):
        assert getattr(made, name) == getattr(default, name), name


def test_a_large_number_stays_one(settings):
    number = 1_000_000
    made = settings(
        {
            "controller": {"resyncSeconds": number, "conflictBackoffSeconds": number},
            "pools": {"cpu": {"cacheSize": number}},
        }
    )
    assert (made.resync_seconds, made.conflict_backoff_seconds) == (number, number)
    assert made.pools["cpu"].cache_size == number


def test_a_label_of_a_pool_is_taken_away_with_null_since_helm_merges_maps(settings):
    def selector(value):
        return settings({"pools": {"gpu": {"nodeSelector": value}}}).pools["gpu"].node_selector

    assert selector({}) == {"slipway.dev/pool": "gpu"}
    assert selector({"slipway.dev/pool": None, "gpu": "a100"}) == {"gpu": "a100"}


def test_a_pool_may_name_an_image_of_its_own(settings):
    pool = settings({"registry": "r.io", "pools": {"cpu": {"image": "other.io/x:1"}}}).pools["cpu"]
    assert pool.image == "other.io/x:1"


@pytest.mark.parametrize("name", ["no", "1", "null"])
def test_a_name_that_yaml_takes_for_something_else_stays_a_name(settings, render, name):
    values = {"pools": {name: {"providers": ["CPUExecutionProvider"]}}}
    values |= {"watch": {"namespaces": [name]}, "nameOverride": name, "fullnameOverride": "slipway"}
    made = settings(values)
    assert name in made.pools
    assert made.namespaces == [name]
    for item in render(values):
        assert all(isinstance(value, str) for value in item["metadata"]["labels"].values())
        assert item["metadata"].get("namespace", name) in ("slipway-system", name)


def test_a_namespaced_install_tells_the_operator_its_namespaces(settings):
    assert settings(ci="namespaced").namespaces == ["team-a", "team-b"]
    assert settings().namespaces == []


def test_the_user_of_a_pools_pods_can_be_left_to_the_platform(settings):
    assert settings().pools["cpu"].run_as_user == 65532
    assert settings({"pools": {"cpu": {"runAsUser": ""}}}).pools["cpu"].run_as_user is None


def test_the_proxy_of_fetch_is_for_all_pools_or_for_one(settings):
    loaded = settings(
        {
            "proxy": {"httpsProxy": "http://proxy:3128"},
            "pools": {"gpu": {"proxy": {"httpsProxy": "http://other:3128"}}},
        }
    )
    assert loaded.proxy.https_proxy == "http://proxy:3128"
    assert loaded.pools["cpu"].proxy == Proxy()
    assert loaded.pools["gpu"].proxy.https_proxy == "http://other:3128"


def test_a_proxy_with_a_password_is_refused(settings):
    with pytest.raises(ValueError, match="httpsProxy"):
        settings({"proxy": {"httpsProxy": "http://me:secret@proxy:3128"}})
