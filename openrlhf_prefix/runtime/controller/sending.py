"""Which weights the engines have: the current ones after every step, or those of an older stage (stages.py)."""

import ray

from openrlhf_prefix.errors import EngineLost


class Sending:
    """Mixin of the controller, before OpenRLHF's trainer."""

    def broadcast_to_vllm(self) -> None:
        """What samples next goes to all engines, dead ones are replaced before."""
        try:
            dead = self.engines.revive()
        except EngineLost as lost:
            self.engines.lost = lost  # the step is all but done: it is logged and saved first
            return
        self.give(self.stages.of(self.samples_generator.step), again=bool(dead))

    def give(self, stage: int | None, again: bool = False) -> None:
        """The weights of a stage, or with None the current ones, to all engines; not those that they have already,
        unless one of them is new (`again`)."""
        if stage is not None and stage == self.stages.held and not again:
            self.weight_check = {}
            return
        self.stages.held = stage
        self._send_weights()

    def _rejoin(self, generating: bool) -> None:
        """New engines take part in the weight sync, and hold the others' weights if they are to generate."""
        ray.get(self.actor_model_group.async_run_method(method_name="rejoin_engines"))
        if generating:
            self._send_weights()

    def _send_weights(self) -> None:
        """The sync, and where one is due a check that it arrived."""
        with self.stages.acting(self.stages.held):
            super().broadcast_to_vllm()
            replaced = bool(self.engines.deaths)
            self.weight_check = self.check.after_sync(self.actor_model_group, self.vllm_engines, replaced)
