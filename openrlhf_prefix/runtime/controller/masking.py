"""Has the ranks choose the weights that train, before the first step of a run; a resumed one has them already.

The examples are those of the first supervised step, were it as long: each problem's demonstration once, in an order of
the run's seed, and none that is held out for a validation.
"""

from collections.abc import Sequence
from typing import Any

import ray

from openrlhf_prefix.algorithm.mask import needs_examples
from openrlhf_prefix.data.problems import Problem
from openrlhf_prefix.runtime.controller.demonstrations import Demonstrations


class Masking:
    """Runs in the controller.

    Args:
        controller: its group of actors and its line to the user are used.
        demonstrations: of the training set.
        examples: problems of --mask.file, which take their place.
    """

    def __init__(self, controller: Any, demonstrations: Demonstrations, examples: Sequence[Problem] = ()) -> None:
        self.controller, self.args = controller, controller.args
        of_file = Demonstrations(examples, self.args.train.seed, demonstrations.end)
        self.demonstrations = of_file if examples else demonstrations

    def make(self) -> None:
        method, group = self.args.mask.method, self.controller.actor_model_group
        if method is None or self.controller.checkpoint:
            return
        known = len(self.demonstrations.training) if needs_examples(method) else 0
        rows = self.demonstrations.batch(0, min(self.args.mask.examples, known))
        if self.args.ds.enable_sleep:
            ray.get(group.async_run_method(method_name="reload_states"))
        share = ray.get(group.async_run_method(method_name="make_mask", rows=rows))[0]
        if self.args.ds.enable_sleep:
            ray.get(group.async_run_method(method_name="offload_states"))
        of = f" of {len(rows)} demonstrations" if rows else ""
        self.controller.show(f"mask: {share:.2%} of the weights train, chosen by {method}{of}", 0)
