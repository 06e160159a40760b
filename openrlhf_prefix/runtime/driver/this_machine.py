"""The GPUs of this machine, for --dry_run: what `train` would refuse here, found without Ray.

Whoever checks a run on a laptop or a login node will start it elsewhere: with a PyTorch for CPUs, or a running cluster
(RAY_ADDRESS), there is nothing to look at. That no GPU is seen is a warning then, and so are fewer than it asks for.
"""

import os
from copy import deepcopy
from types import SimpleNamespace

import torch

from openrlhf_prefix import machine
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.driver import gpus
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.settings.derived import gpus_needed

HERE = "this machine"


def look(args: SimpleNamespace) -> list[str]:
    """What `train` would say of the GPUs here; nothing where it would not start here. `args` stay what they are.

    Raises:
        UserError: it would refuse them, or what is installed: drivers, kernels, memory that something else holds.
    """
    asked = os.environ.get(adapter.VARIABLE)
    if "RAY_ADDRESS" in os.environ or asked == "cpu" or not (asked or torch.version.cuda):
        return []
    if not asked and not torch.cuda.is_available():
        return [f"warning: `train` would not start on {HERE}, where PyTorch sees no GPU: {machine.why_no_gpu()}"]
    chosen, args = adapter.choose() if asked else adapter.CudaPlatform(), deepcopy(args)
    chosen.adjust(args)
    found = gpus.ask(gpus.parts_of(args), os.environ)
    need = gpus.needed(args, min((device.total for device in found.devices), default=0.0))
    if wrong := gpus.problems(HERE, len(found.devices), True, found, need):
        raise UserError("\n".join([f"{HERE} cannot run it", *wrong]))
    lines, asks = [gpus.line(HERE, found, need)], gpus_needed(args)
    if asks > len(found.devices):
        lines.append(
            f"warning: the placement asks for {asks} GPUs, {HERE} has {len(found.devices)}: the others are to "
            "come from a cluster (docs/70-cluster.md)"
        )
    return lines
