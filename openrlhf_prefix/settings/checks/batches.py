"""Rows into optimizer steps, optimizer steps into micro-batches, models onto GPUs: everything divides evenly."""

from openrlhf_prefix.settings.checks.facts import Rule

TABLE: list[Rule] = [
    (
        lambda a: a.referred and a.reference_elsewhere,
        "train.colocate_all and train.colocate_actor_ref put the reference model on the GPUs of the actor: leave "
        "ref.num_nodes and ref.num_gpus_per_node out",
    ),
    (
        lambda a: a.ds.ring_attn_size < 1 or a.gpus % a.ds.ring_attn_size,
        "ds.ring_attn_size {a.ds.ring_attn_size} spreads every row over that many GPUs, and the actor has {a.gpus} "
        "(actor.num_nodes x num_gpus_per_node), no multiple: leave it at 1, or give the actor more GPUs",
    ),
    (
        lambda a: a.train.colocate_all and a.gpus < a.vllm.tensor_parallel_size,
        "vllm.tensor_parallel_size {a.vllm.tensor_parallel_size} spreads every engine over that many GPUs, and with "
        "train.colocate_all there are those of the actor, {a.gpus} (actor.num_nodes x num_gpus_per_node): lower it, "
        "or give the actor more GPUs",
    ),
    (
        lambda a: a.rows % a.train.batch_size,
        "a rollout step has {a.rows} rows (rollout.batch_size x n_samples_per_prompt), which is no multiple of "
        "train.batch_size {a.train.batch_size}: the last optimizer step would be cut short; change one of them",
    ),
    (
        lambda a: a.rollout.vllm_generate_batch_size not in (None, a.rollout.batch_size),
        "rollout.vllm_generate_batch_size {a.rollout.vllm_generate_batch_size} is not rollout.batch_size "
        "{a.rollout.batch_size}: a step would train on a part of a batch, and the run have more steps than its "
        "learning rate is made for; leave it out",
    ),
    (
        lambda a: a.train.colocate_all and a.engine_gpus and a.gpus != a.engine_gpus,
        "train.colocate_all: {a.vllm.num_engines} engines of {a.vllm.tensor_parallel_size} GPUs do not fill the "
        "{a.gpus} GPUs of the actor (actor.num_nodes x num_gpus_per_node): leave vllm.num_engines out, and choose a "
        "vllm.tensor_parallel_size that divides them",
    ),
    (
        lambda a: a.unit < 1 or a.train.batch_size % a.unit,
        "train.batch_size {a.train.batch_size} is no multiple of train.micro_batch_size x data-parallel ranks = "
        "{a.unit}: change one of them",
    ),
    (
        lambda a: not a.vllm.num_engines,
        "vllm.num_engines is not set: rollouts need at least 1 vLLM engine",
    ),
]
