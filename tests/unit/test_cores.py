from __future__ import annotations

import os
from pathlib import Path

import pytest

from common import cores
from common.cores import CorePool, available_cores, core_pools, fair_share
from tests.unit.helpers import python_json

MACHINE = CorePool("machine", 16)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 16 cores, all of them allowed."""
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def pools(folder: Path, cgroup: str, files: dict[str, str], namespace: str = "cgroup:[1]") -> list[CorePool]:
    """The pools with such a `/proc/self/cgroup` and such files below the mount."""
    for name, text in files.items():
        path = folder / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (folder / "proc" / "ns").mkdir(parents=True, exist_ok=True)
    (folder / "proc" / "cgroup").write_text(cgroup + "\n")
    link = folder / "proc" / "ns" / "cgroup"
    link.unlink(missing_ok=True)
    link.symlink_to(namespace)
    return core_pools(folder / "mount", folder / "proc")


def quotas(folder: Path, cgroup: str, files: dict[str, str]) -> list[float]:
    first, *rest = pools(folder, cgroup, files)
    assert first.cores == 16
    return [pool.cores for pool in rest]


# --- what a process may use ----------------------------------------------------------------------------------


def test_every_group_above_a_process_may_have_a_quota(tmp_path: Path) -> None:
    files = {
        "cpu.stat": "",  # the root has no cpu.max
        "a.slice/cpu.max": "600000 100000",
        "a.slice/b.service/cpu.max": "max 100000",
        "a.slice/b.service/c/cpu.max": "75000 50000",
        "other.slice/cpu.max": "10000 100000",
    }
    assert quotas(tmp_path, "0::/a.slice/b.service/c", files) == [6, 1.5]
    assert quotas(tmp_path, "0::/a.slice/b.service", files) == [6]


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    assert quotas(tmp_path, "0::/", {"cpu.max": "200000 100000"}) == [2]


@pytest.mark.parametrize("path", ["/docker/0123abcd", "/../elsewhere"])
def test_a_container_that_sees_the_names_of_the_machine(tmp_path: Path, path: str) -> None:
    assert quotas(tmp_path, f"0::{path}", {"cpu.max": "200000 100000"}) == [2]


def test_quotas_of_version_1(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "350000",
        "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
        "memory/docker/abc/cpu.cfs_quota_us": "1",
    }
    assert quotas(tmp_path, "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc", files) == [3.5]


def test_a_controller_that_is_mounted_under_its_short_name(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000", "unified/cgroup.procs": ""}
    assert quotas(tmp_path, "4:cpuacct,cpu:/\n0::/", files) == [2]


@pytest.mark.parametrize("text", ["", "nonsense", "max", "1.5 x"])
def test_a_quota_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    assert quotas(tmp_path, "0::/a", {"a/cpu.max": text}) == []


def test_a_system_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cores, "BOOT_ID", tmp_path / "none")
    (pool,) = core_pools(tmp_path, tmp_path)
    assert pool.name
    assert pool.cores == 16


def test_a_mask_that_leaves_cores_out_is_a_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 1}, raising=False)
    machine, mask = core_pools(tmp_path, tmp_path)
    assert mask == CorePool(f"{machine.name}:cores-1,3", 2)


def test_the_real_affinity_counts() -> None:
    code = """
import json, os
from common.cores import available_cores
before = available_cores()
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(json.dumps([before, available_cores()]))
"""
    before, pinned = python_json(code)
    assert before >= 1
    assert pinned == 1


def test_this_process_has_at_least_one_core() -> None:
    assert 1 <= available_cores() <= 16


# --- whose cores they are ------------------------------------------------------------------------------------


def test_containers_have_quotas_of_their_own(tmp_path: Path) -> None:
    files = {"cpu.max": "200000 100000"}
    one = pools(tmp_path, "0::/", files, "cgroup:[1]")
    two = pools(tmp_path, "0::/", files, "cgroup:[2]")
    assert one[0] == two[0]
    assert one[1].name != two[1].name
    assert pools(tmp_path, "0::/", files, "cgroup:[1]") == one


def test_services_below_a_limited_slice_share_it(tmp_path: Path) -> None:
    files = {"s/cpu.max": "400000 100000", "s/a/cpu.max": "max 100000", "s/b/cpu.max": "100000 100000"}
    a = pools(tmp_path, "0::/s/a", files)
    b = pools(tmp_path, "0::/s/b", files)
    assert b[:-1] == a
    assert [pool.cores for pool in b] == [16, 4, 1]


def test_a_group_whose_path_is_hidden_is_known_by_that_path(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}
    a, b = (pools(tmp_path, f"4:cpu:/docker/{name}", files) for name in "ab")
    assert a[0] == b[0]
    assert a[1].cores == b[1].cores == 2
    assert a[1].name != b[1].name


# --- the division --------------------------------------------------------------------------------------------


def test_a_worker_alone_has_everything() -> None:
    assert fair_share([MACHINE]) == 16
    assert fair_share([MACHINE], [["another machine"], []]) == 16


def test_workers_of_one_machine_divide_it() -> None:
    assert fair_share([MACHINE], [["machine"]] * 2) == 5
    assert fair_share([MACHINE], [["machine"]] * 30) == 1


def test_a_quota_of_its_own_is_not_divided() -> None:
    own = [MACHINE, CorePool("mine", 4)]
    assert fair_share(own, [["machine", "other"]] * 2) == 4
    assert fair_share(own, [["machine", "other"]] * 7) == 2  # the machine has not enough for all
    assert fair_share(own, [["machine", "mine"]]) == 2


def test_a_fraction_is_rounded_down_but_never_to_nothing() -> None:
    assert fair_share([MACHINE, CorePool("quota", 3.5)]) == 3
    assert fair_share([MACHINE, CorePool("quota", 0.5)]) == 1


def test_processes_that_have_not_reported_yet_count() -> None:
    assert fair_share([MACHINE], processes=4) == 4
    assert fair_share([MACHINE], [["machine"]], processes=4) == 4  # the other one is among the four
    assert fair_share([MACHINE], [["machine"]] * 7, processes=4) == 2
