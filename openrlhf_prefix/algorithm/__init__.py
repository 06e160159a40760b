"""The method, in pure torch. Start reading here.

For every problem a group of N responses is written. Most start from the bare prompt (*plain* rows); some start from
the first L tokens of a demonstration y* (*prefixed* rows) and the policy writes the rest:

    plain row       prompt | continuation
    prefixed row    prompt | y*[:L] | continuation

schedules   which window [low(t), high] the ratio L / |y*| is drawn from at step t
controllers what else may decide on the ratio: stages, chunks, what a problem was solved with
sampler     which rows of a group get a prefix, from which demonstration, how long: a pure function of
            (seed, step, problem, slot)
advantages  reward of a row against its group, one number for its continuation and one for its prefix
selection   of all prefix tokens only the most uncertain share keeps its advantage
losses      PPO-clip on the kept tokens, and the divisor of the whole optimizer step
imitation   what demonstration tokens train with where they are not trained like sampled ones
hybrid      all terms of a micro-batch, each with the divisor of the whole step
mismatch    weights for tokens that the rollout engine and the trainer do not see alike
presets     the table of methods: one row each
fused_head  log-probs and entropies from hidden states, without logits of all tokens

Notation: G groups (problems), N rows per group, B rows of a batch, A action tokens (prefix and continuation).
Source: "Blending Supervised and Reinforcement Fine-Tuning with Prefix Sampling", arXiv 2507.01679 v3.
"""
