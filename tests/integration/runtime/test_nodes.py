"""What is wrong with a node, told from its facts; the cluster itself is in tests/e2e/test_two_nodes.py."""

import pytest

pytest.importorskip("ray")

from openrlhf_prefix.runtime.driver.nodes import Facts, _names_one, problems, table, versions

HERE = {"python": "3.11.9", "torch": "2.13.0", "ray": "2.55.0"}


def facts(**changed) -> Facts:
    healthy = {"versions": dict(HERE), "missing": [], "disk": 100.0, "interfaces": ["lo", "eth0", "ib0"]}
    return Facts(address="10.0.0.2", wanted_interfaces={}, **healthy | changed)


def test_a_healthy_node_has_no_problem():
    assert problems(facts(), HERE) == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"versions": HERE | {"ray": "2.54.0"}}, "10.0.0.2: ray is 2.54.0, here 2.55.0: install the same"),
        (
            {"missing": ["/data/model"]},
            "10.0.0.2: there is no /data/model: put it on a file system that all nodes",
        ),
        ({"disk": 3.2}, "10.0.0.2: 3 GiB of disk for Ray's files, 20 are needed"),
        ({"unreachable": ["10.0.0.3:99 (timed out)"]}, "10.0.0.2: does not reach 10.0.0.3:99 (timed out): open"),
    ],
)
def test_each_problem_is_a_line_with_its_mend(changed, line):
    (found,) = problems(facts(**changed), HERE)
    assert found.startswith(line)


def test_an_interface_that_a_node_does_not_have_is_named():
    found = facts()
    found.wanted_interfaces = {"NCCL_SOCKET_IFNAME": "bond0"}
    (line,) = problems(found, HERE)
    assert "NCCL_SOCKET_IFNAME is bond0, and its interfaces are lo, eth0, ib0" in line


@pytest.mark.parametrize(
    ("names", "expected"),
    [("eth", True), ("=eth", False), ("=eth0", True), ("ens,ib", True), ("^lo", True), ("ens", False)],
)
def test_interfaces_are_named_as_nccl_reads_them(names, expected):
    assert _names_one(names, ["lo", "eth0", "ib0"]) is expected


def test_versions_tell_one_code_from_another():
    found = versions()
    assert len(found["openrlhf_prefix"]) == 8 and found["ray"] and "+" not in found["torch"]


def test_the_table_has_a_row_a_node():
    node = {"Resources": {"GPU": 8.0, "CPU": 64.0}}
    first, second = table([(node, facts())]).splitlines()
    assert first.split()[:3] == ["node", "GPUs", "CPUs"]
    assert second.split() == ["10.0.0.2", "8", "64", "100", "3.11.9", "2.13.0", "10.0.0.2's"]


def test_a_model_is_a_folder_or_a_name_that_the_hub_or_its_cache_knows(tmp_path, monkeypatch):
    from openrlhf_prefix.runtime.driver import nodes

    monkeypatch.setattr(nodes, "HF_HUB_OFFLINE", True)
    assert nodes._has_model(str(tmp_path)) and not nodes._has_model(str(tmp_path / "absent"))
    assert not nodes._has_model("org/never-downloaded")
    monkeypatch.setattr(nodes, "HF_HUB_OFFLINE", False)
    assert nodes._has_model("org/never-downloaded"), "it may still be downloaded"
