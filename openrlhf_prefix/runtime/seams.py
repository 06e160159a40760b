"""Every place where an upstream class is replaced by ours. Nothing else in the package reaches into upstream.

SEAMS           what the code relies on; tests/contract checks each, its signature too, against the installed version
                (driver/wiring.py replaces the names that OpenRLHF's train() looks up)
replaced()      in a worker: a name that an upstream constructor looks up while it runs
undecorated()   the plain class behind an @ray.remote one, which Ray does not let one subclass
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Seam:
    module: str
    name: str  # attribute, or Class.method
    why: str


SEAMS = [
    Seam("openrlhf.cli.train_ppo_ray", "train", "orchestration, called with checked flags; makes the reference model"),
    Seam("openrlhf.cli.train_ppo_ray", "PolicyModelActor", "replaced: trains with the hybrid loss"),
    Seam("openrlhf.cli.train_ppo_ray", "ReferenceModelActor", "replaced: on the machine underneath"),
    Seam("openrlhf.cli.train_ppo_ray", "RewardModelActor", "replaced: on the machine underneath"),
    Seam("openrlhf.cli.train_ppo_ray", "create_vllm_engines", "uses RolloutRayActor of its own module"),
    Seam("openrlhf.trainer.ray.vllm_engine", "RolloutRayActor", "replaced: continues prompt | prefix ids"),
    Seam("openrlhf.trainer.ray.vllm_engine", "RolloutRayActor.generate", "extended: rows that vLLM refuses"),
    Seam("vllm.v1.engine.async_llm", "AsyncLLM.pause_generation", "while it takes a batch in"),
    Seam("vllm.v1.engine.llm_engine", "LLMEngine.add_request", "evaluate gives all requests at once"),
    Seam("vllm.v1.engine.llm_engine", "LLMEngine.step", "and judges each as it ends"),
    Seam("vllm.v1.engine.llm_engine", "LLMEngine.has_unfinished_requests", "until none is left"),
    Seam("openrlhf.trainer.ppo_trainer", "PPOTrainer", "replaced: schedule step, evaluation, run folder"),
    Seam("openrlhf.trainer.ppo_trainer", "BasePPOTrainer", "constructor and train_step of the controller"),
    Seam("openrlhf.trainer.ppo_utils.samples_generator", "SamplesGenerator._dispatch_prompts_to_vllm", "overridden"),
    Seam("openrlhf.trainer.ppo_utils.samples_generator", "SamplesGenerator._process_response_into_experience", "used"),
    Seam("openrlhf.trainer.ppo_utils.samples_generator", "SamplesGenerator._generate_vllm", "extended"),
    Seam("openrlhf.trainer.ppo_utils.samples_generator", "ray", "replaced in its loop: dead engines are replaced"),
    Seam("openrlhf.trainer.ppo_utils.experience_maker", "RemoteExperienceMaker._flatten_results", "extended"),
    Seam("openrlhf.trainer.ppo_utils.experience_maker", "RemoteExperienceMaker.make_experience", "used: forwards"),
    Seam("openrlhf.trainer.ppo_utils.experience_maker", "RemoteExperienceMaker.split_rollout_samples", "replaced"),
    Seam("openrlhf.cli.train_ppo_ray", "RayActorGroup", "replaced: remembers its placement, for the teacher"),
    Seam("openrlhf.trainer.ray.launcher", "RayActorGroup.__init__", "the teacher's group"),
    Seam("openrlhf.trainer.ray.launcher", "ReferenceModelActor.init_model_from_pretrained", "also of the teacher"),
    Seam("openrlhf.trainer.ray.launcher", "RayActorGroup.async_run_method_batch", "deals batches out in equal chunks"),
    Seam("openrlhf.trainer.ppo_utils.experience_maker", "RemoteExperienceMaker.get_cumulative_returns", "used"),
    Seam("openrlhf.trainer.ray.ppo_actor", "ActorPPOTrainer", "replaced inside PolicyModelActor's set-up"),
    Seam("openrlhf.trainer.ray.ppo_actor", "ActorPPOTrainer.ppo_train", "replaced: exact accumulation, hybrid loss"),
    Seam("openrlhf.utils.logging_utils", "WandbLogger.log_train", "trackers.py: with log_eval, close and `handle`"),
    Seam("openrlhf.utils.logging_utils", "TensorboardLogger.log_train", "trackers.py: with log_eval, close, `writer`"),
    Seam("openrlhf.trainer.ppo_trainer", "BasePPOTrainer.broadcast_to_vllm", "extended: checks that it arrived"),
    Seam("openrlhf.trainer.ppo_trainer", "BasePPOTrainer.train_step", "replaced: rows come dealt out, with metrics"),
    Seam("openrlhf.trainer.ppo_trainer", "BasePPOTrainer.ppo_train", "extended: settings of the step"),
    Seam("openrlhf.trainer.ppo_utils.experience", "make_experience_batch", "collates a micro-batch"),
    Seam("openrlhf.trainer.ppo_utils.experience", "split_experience_batch", "rows as a replay buffer holds them"),
    Seam("openrlhf.utils.seqlen_balancing", "get_seqlen_balanced_partitions", "splits rows by length"),
    Seam("openrlhf.utils.seqlen_balancing", "get_minimum_num_micro_batch_size", "dynamic micro-batches"),
    Seam("openrlhf.models", "Actor.forward", "replaced: log-probs of action tokens without logits"),
    Seam("openrlhf.models.ring_attn_utils", "unpad_and_slice_tensor", "rows on their way to the model, packed"),
    Seam("openrlhf.models.ring_attn_utils", "get_tensor_in_current_ring_attn_rank", "which of them a rank is asked"),
    Seam("openrlhf.models.ring_attn_utils", "gather_and_pad_tensor", "and back"),
    Seam("openrlhf.models.utils", "compute_approx_kl", "KL estimators"),
    Seam("deepspeed", "DeepSpeedEngine.set_gradient_accumulation_boundary", "called before every backward"),
    Seam("deepspeed.runtime.zero.stage3", "DeepSpeedZeroOptimizer_Stage3._overflow_clean_up", "a step is discarded"),
    Seam("deepspeed.runtime.zero.stage_1_and_2", "DeepSpeedZeroOptimizer.scaled_global_norm", "gradient of prefixes"),
    Seam("deepspeed.runtime.zero.stage3", "DeepSpeedZeroOptimizer_Stage3._get_norm_groups", "gradient of prefixes"),
    Seam("deepspeed.runtime.zero.stage_1_and_2", "DeepSpeedZeroOptimizer.update_lp_params", "puts the average in"),
    Seam(
        "deepspeed.runtime.zero.stage3",
        "DeepSpeedZeroOptimizer_Stage3._reassign_or_swap_out_partitioned_parameters",
        "puts the average in",
    ),
    Seam("deepspeed.runtime.zero.stage_1_and_2", "DeepSpeedZeroOptimizer.get_flat_partition", "a mask on gradients"),
    Seam("deepspeed.runtime.zero.stage_1_and_2", "DeepSpeedZeroOptimizer.step", "takes the norm, then Adam's step"),
    Seam("deepspeed.runtime.zero.stage3", "DeepSpeedZeroOptimizer_Stage3.step", "takes the norm, then Adam's step"),
    Seam("deepspeed.runtime.zero.stage3", "DeepSpeedZeroOptimizer_Stage3.set_grad_positions", "where a weight lies"),
    Seam("deepspeed.utils.tensor_fragment", "get_hp_fragment_mapping", "where a weight lies"),
    Seam("deepspeed.utils.zero_to_fp32", "parse_optim_states", "replaced: the average's pieces are exported"),
    Seam("openrlhf.trainer.ray.vllm_worker_wrap", "WorkerWrap", "extended: weights in buckets, fingerprints"),
    Seam("openrlhf.trainer.ray.ppo_actor", "ActorPPOTrainer.broadcast_to_vllm", "replaced: weights in buckets"),
    Seam("openrlhf.trainer.ray.utils", "get_physical_gpu_id", "whose CUDA IPC handle it is"),
    Seam("openrlhf.trainer.ray.ppo_actor", "PolicyModelActor", "forward also returns entropies"),
    Seam("openrlhf.trainer.ray.ppo_actor", "PolicyModelActor.save_checkpoint", "replaced: complete, checked, atomic"),
    Seam("openrlhf.trainer.ray.ppo_actor", "PolicyModelActor.save_model", "replaced: atomic export"),
    Seam("openrlhf.trainer.ray.ppo_actor", "ActorPPOTrainer._init_vllm_sync_group", "called after an engine's death"),
    Seam("openrlhf.utils.deepspeed.deepspeed", "DeepspeedStrategy.load_ckpt", "told which checkpoint to load"),
    Seam(
        "deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine", "TorchCheckpointEngine.save", "noted: its files"
    ),
    Seam("deepspeed.runtime.zero.offload_states", "_make_offload_state_key", "buffers of a sleeping optimizer"),
    Seam("deepspeed", "DeepSpeedEngine.was_step_applied", "a step with a gradient that is not finite is counted"),
    Seam("deepspeed", "DeepSpeedEngine._consolidated_16bit_state_dict", "gathers an export"),
    Seam("openrlhf.trainer.ppo_trainer", "BasePPOTrainer.save_best_checkpoint", "extended: state of the controller"),
    Seam("openrlhf.trainer.ray.ppo_actor", "stateless_init_process_group", "gloo instead of NCCL on a CPU"),
    Seam("openrlhf.utils.deepspeed.deepspeed", "get_train_ds_config", "PyTorch's Adam on a CPU"),
    Seam("openrlhf.utils.deepspeed.deepspeed", "get_eval_ds_config", "small tensors are gathered too on a CPU"),
    Seam("vllm.v1.sample.ops.topk_topp_sampler", "random_sample", "replaced on a CPU: one draw a token"),
    Seam("vllm.v1.sample.ops.topk_topp_sampler", "TopKTopPSampler.forward_cpu", "replaced on a CPU by the native one"),
    Seam("vllm.v1.sample.ops.topk_topp_sampler", "TopKTopPSampler.forward_native", "asks random_sample for tokens"),
    Seam("vllm.model_executor.layers.utils", "dispatch_cpu_unquantized_gemm", "keeps the weights it packs on a CPU"),
    Seam("deepspeed.comm.torch", "build_shm_op", "gloo alone on a CPU"),
    Seam("deepspeed.comm.torch", "TorchBackend.all_gather_into_tensor", "finished on return on a CPU"),
    Seam("openrlhf.models.utils", "compute_reward", "KL in the reward"),
    Seam("ray._private.state", "available_resources_per_node", "what each node has free, for a refusal"),
    Seam(
        "ray.runtime_context",
        "RuntimeContext.was_current_actor_reconstructed",
        "an engine knows that it is a successor",
    ),
    Seam("ray._private.node", "Node.get_session_dir_path", "where Ray keeps its files on a node"),
    Seam("openrlhf.trainer.ppo_utils.length_penalty", "apply_length_penalties", "length penalties"),
]


def undecorated(remote_class: Any) -> type:
    """The plain class behind a Ray actor class."""
    return remote_class.__ray_metadata__.modified_class


def look_up(seam: Seam) -> Any:
    """The object a seam names; AttributeError where upstream no longer has it."""
    found = importlib.import_module(seam.module)
    for part in seam.name.split("."):
        metadata = getattr(found, "__ray_metadata__", None)
        found = getattr(metadata.modified_class if metadata is not None else found, part)
    return found


@contextmanager
def replaced(module: str, name: str, value: Any) -> Iterator[None]:
    """While the block runs, `module.name` is `value`."""
    owner = importlib.import_module(module)
    upstream = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, upstream)
