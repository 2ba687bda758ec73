from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway_runtime.inference.threads import available_cpus, cpu_quota


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


V1_OWN = "4:cpu,cpuacct:/pods/a\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("files", "own", "quota"),
    [
        pytest.param({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5, id="v2 at its own root"),
        pytest.param({"cpu.max": "max 100000\n"}, "0::/\n", None, id="v2 without a quota"),
        pytest.param(
            {"pods/a/cpu.max": "max 100000", "pods/cpu.max": "300000 100000"},
            "0::/pods/a\n",
            3.0,
            id="v2 with the quota on an ancestor",
        ),
        pytest.param(
            {"pods/a/cpu.max": "200000 100000", "pods/cpu.max": "300000 100000"},
            "0::/pods/a\n",
            2.0,
            id="v2 takes the smallest",
        ),
        pytest.param(
            {"cpu.max": "400000 100000"},
            "0::/kubepods/besteffort/pod1/abc\n",
            4.0,
            id="v2 with a host path that is not mounted",
        ),
        pytest.param(
            {
                "cpu,cpuacct/pods/a/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/pods/a/cpu.cfs_period_us": "100000",
            },
            V1_OWN,
            2.5,
            id="v1",
        ),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            V1_OWN,
            None,
            id="v1 without a quota",
        ),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            V1_OWN,
            0.5,
            id="v1 below one CPU",
        ),
        pytest.param({"cpu.max": "garbage"}, "nonsense", None, id="unreadable"),
        pytest.param({}, "", None, id="no cgroup at all"),
    ],
)
def test_the_quota_is_read(
    tmp_path: Path, files: dict[str, str], own: str, quota: float | None
) -> None:
    root = tree(tmp_path / "cgroup", files)
    own_path = tmp_path / "own"
    own_path.write_text(own)
    assert cpu_quota(root, own_path) == quota


def test_there_are_never_more_threads_than_schedulable_cpus_and_never_none(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/\n")
    cpus = len(os.sched_getaffinity(0))
    for quota, expected in (("100", 1), ("100000", 1), ("99900000", cpus), ("max", cpus)):
        root = tree(tmp_path / quota, {"cpu.max": f"{quota} 100000"})
        assert available_cpus(root, own) == expected
