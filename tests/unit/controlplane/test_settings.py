"""The operator's configuration says what is wrong with it, and where."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fake_cluster import samples

from slipway_operator.api.settings import Settings, SettingsError, load_settings

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture
def load(tmp_path: Path):
    def run(text: str) -> Settings:
        file = tmp_path / "config.yaml"
        file.write_text(text)
        return load_settings(file)

    return run


def test_a_configuration_needs_no_more_than_the_image_of_a_pool(load):
    settings = load("pools: {cpu: {image: x}}")
    assert settings.pools["cpu"].providers == ["CPUExecutionProvider"]
    assert settings.namespaces == []


def test_a_share_of_a_cpu_needs_no_quotes(load):
    settings = load("pools: {cpu: {image: x, resources: {limits: {cpu: 0.5, memory: 1Gi}}}}")
    assert settings.pools["cpu"].resources.limits == {"cpu": "0.5", "memory": "1Gi"}


def test_what_is_written_is_read(load):
    written = samples.settings(workers=3).model_dump(mode="json", by_alias=True)
    assert load(yaml.safe_dump(written)) == samples.settings(workers=3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "pools: Field required"),
        ("pools: {}", "pools: Dictionary should have at least 1 item"),
        ('pools: {"-gpu": {image: x}}', "pools.-gpu.[key]: String should match"),
        ("pools: {" + 64 * "p" + ": {image: x}}", "at most 63 characters"),
        (
            "pools: {cpu: {image: x}}\nmodelNetworkPolicy: {egressCidrs: [s3.example.com]}",
            "modelNetworkPolicy.egressCidrs.0: String should match",
        ),
        ("pools: {cpu: {image: x, runAsUser: 0}}", "pools.cpu.runAsUser: Input should be greater"),
        (
            "pools: {cpu: {image: x}}\nproxy: {httpsProxy: 'http://me:secret@proxy:3128'}",
            "must hold no user name or password",
        ),
        (
            f"pools: {{cpu: {{image: x, providers: [{CUDA}], preferredProviders: [{CUDA}]}}}}",
            f"{CUDA} is both in providers and in preferredProviders",
        ),
        (
            f"pools: {{gpu: {{image: x, providers: [{CUDA}], preferredProviders: [{CPU}]}}}}",
            f"{CPU} cannot be preferred",
        ),
        (
            "pools: {cpu: {image: x, preferredProviders: [openvino]}}",
            "pools.cpu.preferredProviders.0: String should match",
        ),
        ("pools: {cpu: {}}", "pools.cpu.image: Field required"),
        ("pools: {cpu: {image: x, imagee: y}}", "pools.cpu.imagee: Extra inputs"),
        ("pools: {cpu: {image: x, rollout: {maxSurgee: 1}}}", "pools.cpu.rollout.maxSurgee"),
        (
            "pools: {cpu: {image: x, rollout: {maxSurge: 0%}}}",
            "pools.cpu.rollout: Value error, maxSurge and maxUnavailable are both 0",
        ),
        (
            "pools: {cpu: {image: x, rollout: {minReadySeconds: 600}}}",
            "pools.cpu.rollout: Value error, progressDeadlineSeconds must be above",
        ),
        ("pools: {cpu: {image: x}}\nworkers: 0", "workers: Input should be greater"),
        ("pools: {cpu: {image: x}}\nworkerz: 1", "workerz: Extra inputs"),
        ("pools: {cpu: {image: x}}\nlogFormat: xml", "logFormat: String should match"),
        (
            "pools: {cpu: {image: x}}\nleaderElection: {durationSeconds: 2}",
            "leaderElection: Value error, retryPeriodSeconds must be below",
        ),
        ("- a list", "configuration: Input should be"),
        ("", "configuration: Input should be"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_its_place(load, text, told):
    with pytest.raises(SettingsError) as caught:
        load(text)
    assert told in str(caught.value)


def test_all_mistakes_are_told_at_once(load):
    with pytest.raises(SettingsError) as caught:
        load("pools: {cpu: {}}\nworkers: 0\nnope: 1")
    for place in ("pools.cpu.image", "workers", "nope"):
        assert place in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(tmp_path / "absent.yaml")
