"""Waits until the nodes of a Ray cluster have joined.

    python -m openrlhf_prefix.runtime.driver.join HEAD:PORT NODES SECONDS

Exit code 2 at the deadline, with the addresses that are there. scripts/train_multi_node.sh goes on with all nodes.
"""

import sys
import time
from collections.abc import Callable

from openrlhf_prefix.errors import UserError

POLL_SECONDS = 2.0


def wait_for_nodes(alive: Callable[[], list[str]], count: int, seconds: float, address: str) -> list[str]:
    """Addresses of the nodes, as soon as there are `count`. UserError at the deadline names those that came."""
    deadline, seen = time.monotonic() + seconds, 0
    while True:
        found = alive()
        if len(found) != seen:
            print(f"{len(found)} of {count} nodes: {', '.join(found)}", flush=True)
            seen = len(found)
        if len(found) >= count:
            return found
        if time.monotonic() >= deadline:
            raise UserError(
                f"{len(found)} of {count} nodes joined {address} within {seconds:.0f} s "
                f"({', '.join(found) or 'none'}): "
                "see the output of the others, and whether they reach that address"
            )
        time.sleep(POLL_SECONDS)


def nodes_of(address: str) -> list[str]:
    """Addresses of the live nodes of the cluster; none while its head is still starting."""
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError):
            return []
    return [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]


def main(argv: list[str]) -> None:
    address, count, seconds = argv
    try:
        wait_for_nodes(lambda: nodes_of(address), int(count), float(seconds), address)
    except UserError as error:
        print(f"openrlhf-prefix: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
