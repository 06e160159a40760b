"""What every node of the cluster has, against what the run needs; asked before a model loads.

A probe (a small Ray actor without a GPU) is pinned to each node. It says what Python and packages it runs, which of
the run's files it sees, how much disk is left, and which other nodes it reaches at the addresses that Ray gave them.
Every answer has a deadline; a node that misses it is named. The GPUs are then reserved once, by requests like the
run's, and let go: a placement that cannot be had is found here, not in a wait without end.
"""

import hashlib
import importlib.metadata
import os
import platform as machine
import shutil
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_OFFLINE
from ray._private.state import available_resources_per_node
from ray._private.worker import global_worker
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import openrlhf_prefix
from openrlhf_prefix import pins
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.driver import gpus
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.settings.derived import gpus_needed, teacher_folder

CONNECT_SECONDS = 10
DISK_GIB = 20  # Ray's spilled objects and logs; checkpoints are on the file system of the run folder
INTERFACES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")


@dataclass
class Facts:
    """Of one node."""

    address: str
    versions: dict[str, str]
    missing: list[str]  # paths of the run that are not there
    disk: float  # GiB left where Ray keeps its files
    interfaces: list[str]
    wanted_interfaces: dict[str, str]  # variable -> what it names
    unreachable: list[str] = field(default_factory=list)  # addresses of other nodes


class Probe:
    """Runs on one node."""

    def facts(self, paths: list[str], models: list[str]) -> Facts:
        return Facts(
            address=ray.util.get_node_ip_address(),
            versions=versions(),
            missing=[path for path in paths if not os.path.exists(path)]
            + [name for name in models if not _has_model(name)],
            disk=shutil.disk_usage(global_worker.node.get_session_dir_path()).free / 2**30,
            interfaces=[name for _, name in socket.if_nameindex()],
            wanted_interfaces={name: os.environ[name] for name in INTERFACES if name in os.environ},
        )

    def gpus(self, parts: list[str]) -> gpus.Found:
        return gpus.ask(parts)

    def listen(self) -> tuple[str, int]:
        """Opens a port on the address that the other nodes are told, and takes connections on it."""
        address = ray.util.get_node_ip_address()
        server = socket.create_server((address, 0), backlog=128)
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()
        return address, server.getsockname()[1]

    def _accept(self, server: socket.socket) -> None:
        while True:
            server.accept()[0].close()

    def unreachable(self, peers: list[tuple[str, int]]) -> list[str]:
        """Addresses that take no connection from here."""
        failed = []
        for peer in peers:
            try:
                socket.create_connection(peer, timeout=CONNECT_SECONDS).close()
            except OSError as error:
                failed.append(f"{peer[0]}:{peer[1]} ({error.strerror or error})")
        return failed


def versions() -> dict[str, str]:
    """Python, the pinned packages, torch without its build, and a fingerprint of this package's code."""
    found = {name: importlib.metadata.version(name) for name in pins.COMPARED}
    code = hashlib.sha256()
    root = Path(openrlhf_prefix.__file__).parent
    for path in sorted(root.rglob("*.py")):
        code.update(str(path.relative_to(root)).encode() + path.read_bytes())
    torch = importlib.metadata.version("torch").partition("+")[0]
    own = {"python": machine.python_version(), "torch": torch, "openrlhf_prefix": code.hexdigest()[:8]}
    return own | found


def check_nodes(args: SimpleNamespace) -> str:
    """One table of all nodes. UserError, with the table and what to do, where one of them cannot take part."""
    nodes = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeManagerAddress"])
    deadline = args.run.wait_seconds
    probes = {node["NodeID"]: _probe(node["NodeID"]) for node in nodes}
    try:
        facts = _ask(
            nodes, {key: probe.facts.remote(_paths(args), _models(args)) for key, probe in probes.items()}, deadline
        )
        peers = _ask(nodes, {key: probe.listen.remote() for key, probe in probes.items()}, deadline)
        others = {key: [peer for other, peer in peers.items() if other != key] for key in probes}
        slow = deadline + CONNECT_SECONDS * len(nodes)
        failed = _ask(nodes, {key: probe.unreachable.remote(others[key]) for key, probe in probes.items()}, slow)
        on_gpus, wrong = _look_at_gpus(args, nodes, probes)
    finally:
        for probe in probes.values():
            ray.kill(probe)
    for key, found in facts.items():
        found.unreachable = failed[key]
    wrong = [line for node in nodes for line in problems(facts[node["NodeID"]], versions())] + wrong
    shown = "\n".join([table([(node, facts[node["NodeID"]]) for node in nodes]), *on_gpus])
    if wrong:
        raise UserError("\n".join(["these nodes cannot run it together", shown, *wrong]))
    return shown


def _look_at_gpus(args: SimpleNamespace, nodes: list[dict], probes: dict[str, Any]) -> tuple[list[str], list[str]]:
    """On CUDA: a line a node about its GPUs, and what is wrong with them."""
    nodes = [node for node in nodes if node["Resources"].get("GPU", 0)]
    if adapter.current().name != "cuda" or not nodes:
        return [], []
    parts, free = gpus.parts_of(args), available_resources_per_node()
    answers = _ask(
        nodes, {node["NodeID"]: probes[node["NodeID"]].gpus.remote(parts) for node in nodes}, 2 * gpus.BUILD_SECONDS
    )
    told, wrong = [], []
    sizes = {device.total for found in answers.values() for device in found.devices}
    need = gpus.needed(args, min(sizes)) if sizes else 0.0
    for node in nodes:
        found, counted = answers[node["NodeID"]], int(node["Resources"]["GPU"])
        idle = free.get(node["NodeID"], {}).get("GPU", 0) == counted
        wrong += gpus.problems(node["NodeManagerAddress"], counted, idle, found, need)
        told += [gpus.line(node["NodeManagerAddress"], found, need)] if found.devices else []
    return told, wrong


def _probe(node: str) -> Any:
    pinned = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(Probe).options(num_cpus=0, scheduling_strategy=pinned).remote()


def _ask(nodes: list[dict], refs: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The answer of every node. UserError names those that did not give one within `seconds`."""
    ready, _ = ray.wait(list(refs.values()), num_returns=len(refs), timeout=seconds)
    late = [node["NodeManagerAddress"] for node in nodes if refs[node["NodeID"]] not in ready]
    if late:
        raise UserError(
            f"{', '.join(late)} did not answer within {seconds:.0f} s: see the logs of Ray there, "
            "or take it out of the cluster; --run.wait_seconds changes the deadline"
        )
    try:
        return {key: ray.get(ref, timeout=seconds) for key, ref in refs.items()}
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise UserError(
            f"a node could not even be looked at ({last}): start Ray there from the environment and the checkout of "
            "this one"
        ) from None


def _paths(args: SimpleNamespace) -> list[str]:
    """What every node reads or writes: models, reward file, run folder. The data is the driver's alone."""
    files = [args.run.dir, args.train.agent_func_path, *(args.reward.remote_url or [])]
    return [name for name in files if name and Path(name).is_absolute()]


def _models(args: SimpleNamespace) -> list[str]:
    names = [args.actor.model_name_or_path, teacher_folder(args), *(args.reward.model_name_or_path or "").split(",")]
    return [name for name in names if name]


def _has_model(name: str) -> bool:
    """A folder is there; a hub name is in the hub's cache, or can be downloaded."""
    if Path(name).is_absolute():
        return Path(name).exists()
    return not HF_HUB_OFFLINE or isinstance(try_to_load_from_cache(name, "config.json"), str)


def problems(found: Facts, expected: dict[str, str]) -> list[str]:
    """What is wrong with a node, and the mend, a line each; `expected` are the driver's versions."""
    lines = [
        f"{found.address}: {name} is {found.versions[name]}, here {version}: install the same (scripts/setup.sh), and "
        "start Ray from it"
        for name, version in expected.items()
        if found.versions[name] != version
    ]
    lines += [
        f"{found.address}: there is no {path}: put it on a file system that all nodes share (hub: HF_HOME)"
        for path in found.missing
    ]
    if found.disk < DISK_GIB:
        lines.append(
            f"{found.address}: {found.disk:.0f} GiB of disk for Ray's files, {DISK_GIB} are needed: free some, or "
            "start Ray with another --temp-dir"
        )
    for variable, names in found.wanted_interfaces.items():
        if not _names_one(names, found.interfaces):
            lines.append(
                f"{found.address}: {variable} is {names}, and its interfaces are {', '.join(found.interfaces)}: "
                "set it to one that every node has"
            )
    lines += [
        f"{found.address}: does not reach {peer}: open the ports between the nodes, or start Ray with the "
        "--node-ip-address of the network they share"
        for peer in found.unreachable
    ]
    return lines


def _names_one(names: str, interfaces: list[str]) -> bool:
    """NCCL's and gloo's lists: beginnings of names; `=` before a whole name; `^` before what to leave out."""
    if names.startswith("^"):
        return True
    whole, wanted = names.startswith("="), names.lstrip("=").split(",")
    return any(have == want if whole else have.startswith(want) for want in wanted for have in interfaces)


def table(rows: list[tuple[dict, Facts]]) -> str:
    lines = [f"{'node':<18}{'GPUs':>5}{'CPUs':>6}{'disk GiB':>10}  {'python':<9}{'torch':<9}{'network':<20}"]
    for node, found in rows:
        resources = node["Resources"]
        over = ",".join(dict.fromkeys(found.wanted_interfaces.values())) or f"{found.address}'s"
        lines.append(
            f"{found.address:<18}{resources.get('GPU', 0):>5.0f}{resources.get('CPU', 0):>6.0f}{found.disk:>10.0f}  "
            f"{found.versions['python']:<9}{found.versions['torch']:<9}{over:<20}".rstrip()
        )
    return "\n".join(lines)


def check_placement(args: SimpleNamespace) -> None:
    """The GPUs can be had now: reserved by requests like the run's, and let go. UserError says what each node has."""
    group = placement_group([{"GPU": 1, "CPU": 1}] * gpus_needed(args), strategy="PACK")
    try:
        if group.wait(timeout_seconds=args.run.wait_seconds):
            return
        raise UserError(
            f"{gpus_needed(args)} GPUs with a CPU each could not be had within {args.run.wait_seconds:.0f} s, of "
            f"{_free()}: end what holds them, add nodes, or lower actor.num_nodes and vllm.num_engines"
        )
    finally:
        remove_placement_group(group)


def _free() -> str:
    free = available_resources_per_node()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return "; ".join(
        f"{node['NodeManagerAddress']}: {free.get(node['NodeID'], {}).get('GPU', 0):.0f} of "
        f"{node['Resources'].get('GPU', 0):.0f} GPUs and {free.get(node['NodeID'], {}).get('CPU', 0):.0f} of "
        f"{node['Resources'].get('CPU', 0):.0f} CPUs free"
        for node in nodes
    )
