"""Advantages of a rollout batch: groups, then prefix selection, then one number per token.

    continuation token   group advantage of its row, minus the KL penalty where KL is in the reward
    prefix token         the row's prefix advantage if it was selected, else 0

Runs in the controller on the whole rollout batch, so that neither groups nor the entropy ranking depend on how rows
are split into micro-batches or over ranks. The rows then leave in the order in which the ranks train on them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
import torch
from openrlhf.models.utils import compute_reward, masked_mean
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.length_penalty import apply_length_penalties

from openrlhf_prefix.algorithm.advantages import (
    BATCH_NORMALIZED,
    GroupAdvantages,
    group_advantages,
    group_spread,
    sampled_weights,
)
from openrlhf_prefix.algorithm.imitation import needs_reference
from openrlhf_prefix.algorithm.sampler import PrefixSampler, request_seed
from openrlhf_prefix.algorithm.selection import select_prefix_tokens
from openrlhf_prefix.algorithm.teacher import taught_rows
from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime.controller.contrast import Contrasting
from openrlhf_prefix.runtime.controller.normalizing import normalize
from openrlhf_prefix.runtime.controller.reference import refer
from openrlhf_prefix.runtime.controller.rescue import Rescue
from openrlhf_prefix.runtime.controller.rollout_metrics import rollout_metrics, sampled_kl
from openrlhf_prefix.runtime.controller.teacher import Teacher
from openrlhf_prefix.runtime.rows.batches import blank, deal, filled, forward_batches, shuffled
from openrlhf_prefix.runtime.rows.fields import ActorForward, counts, prefix_mask_of
from openrlhf_prefix.runtime.rows.loss import hybrid_loss, rows_to_forward, trained_tokens, trains
from openrlhf_prefix.settings.derived import data_parallel_ranks


@dataclass(frozen=True)
class Rollouts:
    """A rollout batch with its advantages."""

    experiences: list[Experience]  # as they were forwarded; `index` tells each row's place
    failed: dict[int, str]  # groups with too few right rows -> their problems
    taught: torch.Tensor  # (G, N) rows that a teacher acts on, if there is one
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Batch:
    """What a global step trains on."""

    rows: list[Experience]  # single rows, dealt out to optimizer steps and ranks
    rollouts: list[Experience]  # what was sampled, for the log
    metrics: dict[str, float | None]


class PrefixExperienceMaker(RemoteExperienceMaker):
    """OpenRLHF's experience maker with prefix-aware advantages."""

    def __init__(
        self,
        *args: Any,
        sampler: PrefixSampler,
        rescue: Rescue,
        teacher: Teacher,
        contrasting: Contrasting,
        reference: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.controller, self.trust, self.rescue = sampler.controller, sampler.trust, rescue
        self.teacher, self.reference, self.contrasting = teacher, reference, contrasting
        # Between forwarded() and what upstream's make_experience() calls in it:
        self._passes: int | None = None  # of the policy, over the first batches; None: one for each
        self._unseen: list[torch.Tensor] = []  # what stands for the others' log-probs and entropies
        self._entropies: list[torch.Tensor] = []

    def make(self, samples: list[Experience], step: int) -> Batch:
        """The rollouts of global step `step` as rows to train on."""
        rollouts = self.with_advantages(*self.forwarded(samples))
        if needs_reference(self.args.hybrid.imitation):
            refer(rollouts.experiences, self)
        held = self.contrasting.weigh(rollouts.experiences, step, self)
        taught = self.teacher.judge(rollouts.experiences, rollouts.taught.flatten(), step, self)
        seed = request_seed(self.args.train.seed, step, "order of the rows", 0)
        rows = shuffled(rollouts.experiences, seed)
        rows = [row if self._known(row).all() else blank(row) for row in rows]
        rescued = self.rescue(rows, rollouts.failed, step)
        loss = hybrid_loss(self.args)
        tokens = [trained_tokens(row, loss) for row in rescued.rows]
        trained = [trains(of_row, self.args) for of_row in tokens]
        of_step = {"train/tokens": float(sum(tokens)), "train/rows_skipped": float(trained.count(False))}
        return Batch(
            deal(rescued.rows, self.args.train.batch_size, data_parallel_ranks(self.args), trained),
            rollouts.experiences,
            rollouts.metrics | held | taught | rescued.metrics | of_step,
        )

    def forwarded(self, samples: list[Experience]) -> tuple[list[Experience], list[torch.Tensor]]:
        """Forward batches with log-probs, rewards and KL, and (B, A) entropies of each.

        Rows whose log-probs before the update nobody reads (rows/loss.py) are in batches of their own, which the
        policy does not see: their log-probs and entropies are NaN. Every rank makes as many passes as the others; the
        blank rows that fill them up are dropped here.
        """
        for place, row in enumerate(samples):
            row.index = [place]
        prefixed = torch.tensor([int(row.info["prefix_length"]) > 0 for row in samples])
        read = rows_to_forward(prefixed, self.args).tolist()
        seen, unseen = (
            self.split_rollout_samples([row for row, one in zip(samples, read, strict=True) if one is value])
            for value in (True, False)
        )
        first = filled(seen, self._ranks())
        self._passes = len(first)
        made = self.make_experience(first + filled(unseen, self._ranks()))
        places = [*range(len(seen)), *range(len(first), len(first) + len(unseen))]
        entropies = self._entropies
        self._passes, self._unseen, self._entropies = None, [], []
        return [made[place] for place in places], [entropies[place] for place in places]

    def split_rollout_samples(self, rollout_samples: list[Experience]) -> list[Experience]:
        return forward_batches(rollout_samples, self.args, self._ranks(), self.tokenizer.pad_token_id)

    def _dispatch_forward(self, group: Any, sync_condition: bool, **inputs: list) -> list:
        if group is not self.actor_model_group or self._passes is None:
            return super()._dispatch_forward(group, sync_condition, **inputs)
        self._unseen = [torch.full(mask.shape, math.nan) for mask in inputs["action_mask"][self._passes :]]
        if not self._passes:
            return []
        asked = {name: values[: self._passes] for name, values in inputs.items()}
        return super()._dispatch_forward(group, sync_condition, **asked)

    def log_probs(self, batches: list[Experience], method: str = "forward", group: Any = None) -> list[torch.Tensor]:
        """(B, A) log-probs of the action tokens of each batch, by that pass of the policy's, or of `group`."""
        return self.passes(batches, method, group)

    def passes(self, batches: list[Experience], method: str, group: Any = None, **others: list) -> list:
        """What a pass says of each batch; `others` has more of its arguments, None for the batches that fill up."""
        names, every = ("sequences", "action_mask", "attention_mask"), filled(batches, self._ranks())
        inputs = {name: [getattr(batch, name) for batch in every] for name in names}
        inputs |= {name: values + [None] * (len(every) - len(batches)) for name, values in others.items()}
        asked = self.actor_model_group if group is None else group
        references = asked.async_run_method_batch(method_name=method, **inputs)
        copies = self.args.ds.ring_attn_size * self.args.ds.tensor_parallel_size
        results = self._flatten_results(references, copies)[: len(batches)]
        if self.args.train.colocate_all or self.args.train.colocate_actor_ref:
            ray.get(asked.async_run_method(method_name="empty_cache"))
        return results

    def _ranks(self) -> int:
        """Between which the forward passes are shared: a number that those of every model divide."""
        groups = {"actor": self.actor_model_group, "reward": self.reward_model_group, "teacher": self.teacher.group}
        groups["ref"] = self.initial_model_group or self.reference
        return math.lcm(*(data_parallel_ranks(self.args, name) for name, group in groups.items() if group is not None))

    def _flatten_results(self, refs: list, duplicate_factor: int) -> list:
        """The actor's forward brings entropies along; they are kept here, upstream goes on with the log-probs."""
        results = super()._flatten_results(refs, duplicate_factor)
        if results and not isinstance(results[0], ActorForward):
            return results
        self._entropies = [result.entropy for result in results] + self._unseen
        return [result.log_probs for result in results] + self._unseen

    @torch.no_grad()
    def with_advantages(self, experiences: list[Experience], entropies: Sequence[torch.Tensor]) -> Rollouts:
        """Fills advantages and returns in. Takes the place of upstream's compute_advantages_and_returns().

        Args:
            entropies: (B, A) of the policy, for each experience.
        """
        self._find_failed(experiences)
        raw = torch.cat([experience.rewards for experience in experiences])
        failed, taught = self._look_at_groups(experiences, raw)
        apply_length_penalties(experiences, self.args)
        for experience, entropy in zip(experiences, entropies, strict=True):
            experience.info["row_entropy"] = masked_mean(entropy, experience.action_mask, dim=-1)
        advantages = self._group(experiences)
        prefix_masks = [prefix_mask_of(experience) & self._known(experience) for experience in experiences]
        selected = self._select(entropies, prefix_masks)
        for experience, prefix_mask, kept in zip(experiences, prefix_masks, selected, strict=True):
            rows = torch.tensor(experience.index)
            returns = self._continuation_returns(experience, advantages.continuation.flatten()[rows])
            of_prefix = advantages.prefix.flatten()[rows].unsqueeze(-1) * kept
            experience.advantages = torch.where(prefix_mask, of_prefix, returns)
            experience.info["return"] = advantages.continuation.flatten()[rows]
            experience.info["prefix_advantage"] = advantages.prefix.flatten()[rows]
        if self.args.hybrid.estimator == BATCH_NORMALIZED:
            known = [self._known(experience) for experience in experiences]
            normalize(experiences, known, prefix_masks, selected, not self.args.algo.advantage.no_std_norm)
        known = torch.cat([self._known(experience).squeeze(-1) for experience in experiences])
        metrics = rollout_metrics(experiences, entropies, raw, known, prefix_masks, selected)
        if self.initial_model_group is not None and not self.args.algo.kl.use_loss:
            metrics["kl"] = sampled_kl(experiences)
        if self.trust:
            metrics["prefix/trust"] = self.trust.mean()
        for experience in experiences:
            experience.returns, experience.kl = experience.advantages.clone(), None
        return Rollouts(experiences, failed, taught, metrics)

    def _find_failed(self, experiences: list[Experience]) -> None:
        """A reward that is no number, as a reward model may give one, failed like the others; failed ones count 0."""
        new = rows = 0  # what had failed before was counted then, over all rows that were asked for
        for experience in experiences:
            rewards, known = experience.rewards.float(), ~experience.info["reward_failed"].bool()
            failed = ~known | ~rewards.isfinite()
            new, rows = new + int((failed & known).sum()), rows + len(rewards)
            experience.info["reward_failed"] = failed
            experience.rewards = torch.where(failed, torch.zeros_like(rewards), rewards)
        if new > self.args.reward.error_limit * rows:
            raise RunStopped(
                f"{new} of {rows} rewards are not finite numbers, more than --reward.error_limit "
                f"{self.args.reward.error_limit:g} allows: look at the reward model"
            )

    def _known(self, experience: Experience) -> torch.Tensor:
        """(B, 1) false for rows that leave group statistics and loss."""
        return counts(experience.info["reward_failed"], self.args).unsqueeze(-1)

    def _in_place(self, experiences: list[Experience], values: list[torch.Tensor]) -> torch.Tensor:
        """(G, N) of numbers of the rows, which experiences may hold in any order: `index` tells each row's place."""
        place = torch.tensor([index for experience in experiences for index in experience.index])
        joined = torch.cat([part.flatten() for part in values])
        ordered = torch.empty_like(joined)
        ordered[place] = joined
        return ordered.view(-1, self.args.rollout.n_samples_per_prompt)

    def _info(self, experiences: list[Experience], name: str) -> torch.Tensor:
        return self._in_place(experiences, [experience.info[name] for experience in experiences])

    def _look_at_groups(self, experiences: list[Experience], raw: torch.Tensor) -> tuple[dict[int, str], torch.Tensor]:
        """Controller and trust are told what came of their draws; returns the groups with too few right rows, and
        (G, N) the rows that a teacher acts on."""
        rewards = self._in_place(experiences, [raw])
        known = self._in_place(experiences, [self._known(experience) for experience in experiences])
        given = self._info(experiences, "prefix_ratio").float()
        chosen = self._info(experiences, "demonstration") if self.trust else torch.full_like(given, -1)
        names = dict(
            pair for experience in experiences for pair in zip(experience.index, experience.prompts, strict=True)
        )
        size, failed = self.args.rollout.n_samples_per_prompt, {}
        for group in range(len(rewards)):
            columns = (column[group].tolist() for column in (chosen, given, rewards, known))
            drawn = [
                (int(number), ratio, reward) for number, ratio, reward, counts in zip(*columns, strict=True) if counts
            ]
            outcomes = [(ratio, reward) for _, ratio, reward in drawn]
            self.controller.observe(names[group * size], outcomes)
            if self.trust:
                self.trust.observe(names[group * size], [row for row in drawn if row[0] >= 0])
            if outcomes and sum(reward > 0 for _, reward in outcomes) <= self.args.hybrid.gate:
                failed[group] = names[group * size]
        return failed, taught_rows(rewards, known, self.args.teacher.on, self.args.hybrid.gate)

    def _group(self, experiences: list[Experience]) -> GroupAdvantages:
        """(G, N) advantages."""
        rewards = self._in_place(experiences, [experience.rewards for experience in experiences])
        valid = self._in_place(experiences, [self._known(experience) for experience in experiences])
        spread, size = group_spread(rewards, valid), self.args.rollout.n_samples_per_prompt
        for experience in experiences:
            experience.info["group_reward_std"] = spread[torch.tensor(experience.index) // size]
        flags, prefixed = self.args.hybrid, self._info(experiences, "prefix_length") > 0
        advantages = group_advantages(rewards, prefixed, flags.estimator, flags.baseline, valid)
        if flags.sampled != "advantage":
            weights = sampled_weights(flags.sampled, rewards, self._info(experiences, "row_entropy"))
            advantages = replace(advantages, continuation=torch.where(valid, weights, torch.zeros_like(weights)))
        return advantages

    def _continuation_returns(self, experience: Experience, advantages: torch.Tensor) -> torch.Tensor:
        """(B, A) advantage of every action token as if all were sampled, KL penalty included."""
        reward = compute_reward(
            advantages,
            self.kl_ctl.value,
            experience.kl,
            action_mask=experience.action_mask,
            reward_clip_range=self.args.reward.clip_range,
        )
        return self.get_cumulative_returns(reward, experience.action_mask, 1.0)

    def _select(self, entropies: Sequence[torch.Tensor], prefix_masks: list[torch.Tensor]) -> list[torch.Tensor]:
        """Kept prefix tokens, ranked over the whole batch whatever its split into experiences."""
        width = max(mask.shape[1] for mask in prefix_masks)

        def padded(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.cat([torch.nn.functional.pad(t, (0, width - t.shape[1])) for t in tensors])

        flags = self.args.prefix
        kept = select_prefix_tokens(padded(entropies), padded(prefix_masks), flags.keep, flags.scope)
        parts = kept.split([len(mask) for mask in prefix_masks])
        return [part[:, : mask.shape[1]] for part, mask in zip(parts, prefix_masks, strict=True)]
