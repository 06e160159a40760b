"""Bytes per GPU, by item and phase.

P parameters on n ranks; T tokens of a micro-batch; L layers of width H, with q = heads x head_dim and kv likewise.

    parameters   2 P/n in ZeRO-3, and whole what is smaller than 1e5 elements; 2 P below it
    gradients    2 P/n (4 P/n with ds.grad_accum_dtype fp32) in ZeRO-2 and 3
    optimizer    12 P/n: fp32 weights and Adam's two moments
    activations  of a layer and token: 16 H + 4 (q + heads + kv) + 8 intermediate (+ 6 (q + kv) with norms of heads);
                 with gradient checkpointing 2 H per layer, and one layer in full
    logits       with actor.fused_head 8 of a block of them, the gradients of all hidden states in fp32 (4 T H) and of
                 the head's weight (2 H x vocabulary). Without it 10 T x vocabulary: fp32 logits (4), their gradient
                 (4), the same in bf16 (2); without a gradient 8
    teacher, reference   their parameters, where they share the actor's GPUs
    KV cache     what gpu_memory_utilization leaves beside the engine's weights; a token takes 4 L kv / TP

The first three are measured against DeepSpeed's engine, the fourth against autograd (tests/integration/test_plan.py).
"""

from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

from openrlhf_prefix.algorithm.fused_head import MOST
from openrlhf_prefix.plan.architectures import Architecture, load
from openrlhf_prefix.settings.derived import has_reference, placement, teacher_folder

GIB = 2**30
# DeepSpeed's defaults, in elements; OpenRLHF leaves them alone.
PERSISTENT = 100_000  # stage3_param_persistence_threshold
LIVE = 1_000_000_000  # stage3_max_live_parameters
BUCKET = 500_000_000  # reduce_bucket_size
SUB_GROUP = 1_000_000_000  # fp32 gradients that an optimizer step makes at once
# Assumed, not derived: CUDA context, NCCL's buffers and the allocator's gaps; an engine's graphs and workspace.
RESERVE = 3 * GIB
ENGINE_WORKSPACE = 2 * GIB
ASLEEP = GIB  # what a sleeping engine keeps

TRAINING, STEP, ROLLOUTS = "training", "step", "rollouts"
PHASES = (TRAINING, STEP, ROLLOUTS)


@dataclass(frozen=True)
class Item:
    name: str
    bytes: dict[str, float]  # phase -> bytes; absent where it takes nothing
    note: str = ""


@dataclass(frozen=True)
class Plan:
    items: list[Item]
    capacity: float  # bytes of a GPU
    kv_rows: float  # rows of data.max_len that an engine's cache holds at once
    host: float  # bytes of host memory of a node, for what sleeps, is offloaded, or is copied to be saved
    checkpoint: float  # bytes of one

    def total(self, phase: str) -> float:
        return sum(item.bytes.get(phase, 0.0) for item in self.items)

    def failures(self) -> list[str]:
        """What does not fit, a sentence each."""
        over = [phase for phase in PHASES if self.total(phase) > self.capacity]
        found = [
            f"{phase} needs {self.total(phase) / GIB:.1f} of {self.capacity / GIB:.1f} GiB, the most for "
            f"{self.largest(phase)}"
            for phase in over
        ]
        if self.kv_rows < 1:
            found.append("the KV cache of an engine holds no single row of data.max_len tokens")
        return found

    def largest(self, phase: str) -> str:
        return max(self.items, key=lambda item: item.bytes.get(phase, 0.0)).name


def parameter_bytes(model: Architecture, stage: int, ranks: int) -> float:
    """bf16 weights of one rank; ZeRO-3 pads every parameter to a multiple of the ranks."""
    if stage < 3:
        return 2.0 * model.parameters
    whole = sum(size for size in model.sizes if size < PERSISTENT)
    return 2.0 * (sum(-(-size // ranks) for size in model.sizes) + whole)


def gradient_bytes(model: Architecture, stage: int, ranks: int, fp32: bool) -> float:
    share = model.parameters / ranks if stage >= 2 else model.parameters
    return (4.0 if fp32 else 2.0) * share


def optimizer_bytes(model: Architecture, stage: int, ranks: int) -> float:
    return 12.0 * (model.parameters / ranks if stage >= 1 else model.parameters)


def layer_bytes(model: Architecture) -> float:
    """What autograd keeps of one layer for one token, in bf16 with flash attention."""
    q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    norms = 6 * (q + kv) if model.head_norms else 0
    return 16 * model.hidden + 4 * (q + model.heads + kv) + 8 * model.intermediate + norms


def activation_bytes(model: Architecture, tokens: float, checkpointing: bool) -> float:
    if checkpointing:
        return tokens * (2 * model.hidden * model.layers + layer_bytes(model))
    return tokens * layer_bytes(model) * model.layers


def micro_batch_tokens(args: SimpleNamespace) -> float:
    """Most tokens of one micro-batch on one GPU."""
    rows = args.train.micro_batch_size * args.data.max_len
    tokens = max(args.train.max_tokens_per_gpu, args.data.max_len) if args.train.dynamic_batch_enable else rows
    return tokens / args.ds.ring_attn_size


def logit_bytes(args: SimpleNamespace, model: Architecture) -> float:
    """Of the larger of two passes: the training step, and the one for old log-probs and entropies of rollouts."""
    forward = args.rollout.micro_batch_size * args.data.max_len
    if args.train.dynamic_batch_enable:
        forward = max(args.rollout.max_tokens_per_gpu, args.data.max_len)
    training, forward = micro_batch_tokens(args), forward / args.ds.ring_attn_size
    if args.actor.fused_head == "off":
        return model.vocab * max(10.0 * training, 8.0 * forward)
    gradients = model.hidden * (4.0 * training + 2.0 * model.vocab)
    return 8.0 * min(MOST, max(training, forward) * model.vocab) + gradients


def make_plan(args: SimpleNamespace, model: Architecture, capacity: float) -> Plan:
    """Items of a GPU in every phase; `args` is nested, `capacity` in bytes."""
    cache = args.vllm.gpu_memory_utilization * capacity - engine_weights(args, model) - ENGINE_WORKSPACE
    per_token = 4.0 * model.layers * model.kv_heads * model.head_dim
    per_token /= min(args.vllm.tensor_parallel_size, model.kv_heads)
    items = _trainer_items(args, model) + _engine_items(args, model, max(cache, 0.0))
    items += _frozen_items(args, "teacher", teacher_bytes(args), args.teacher.offload)
    items += _frozen_items(args, "reference", reference_bytes(args, model), args.ref.offload)
    return Plan(
        items=[*items, Item("CUDA and NCCL", dict.fromkeys(PHASES, float(RESERVE)), "assumed")],
        capacity=capacity,
        kv_rows=cache / (per_token * args.data.max_len),
        host=_host_bytes(args, model),
        checkpoint=checkpoint_bytes(args, model),
    )


def _static(args: SimpleNamespace, model: Architecture) -> tuple[float, float, float]:
    """Parameters, gradients and optimizer of one rank, wherever they lie."""
    ranks, stage = args.actor.num_nodes * args.actor.num_gpus_per_node, args.ds.zero_stage
    gradients = gradient_bytes(model, stage, ranks, args.ds.grad_accum_dtype == "fp32")
    return parameter_bytes(model, stage, ranks), gradients, optimizer_bytes(model, stage, ranks)


def _trainer_items(args: SimpleNamespace, model: Architecture) -> list[Item]:
    parameters, gradients, optimizer = _static(args, model)
    offload, checkpointing = args.ds.adam_offload, args.actor.gradient_checkpointing_enable
    present = PHASES if args.train.colocate_all else (TRAINING, STEP)
    awake = (TRAINING, STEP) if args.ds.enable_sleep else present
    tokens = micro_batch_tokens(args)
    whole = activation_bytes(model, tokens, checkpointing=False) / GIB
    note = f"{tokens:,.0f} tokens" + (f"; {whole:.1f} without checkpointing" if checkpointing else "")
    at_once = 4.0 * min(SUB_GROUP, optimizer / 12)
    return [
        Item("parameters", dict.fromkeys(present, parameters), f"bf16, ZeRO-{args.ds.zero_stage}"),
        Item("gradients", dict.fromkeys(awake, gradients), args.ds.grad_accum_dtype or "bf16"),
        Item("optimizer", {} if offload else dict.fromkeys(awake, optimizer), "on the host" if offload else "fp32"),
        Item("ZeRO buffers", {TRAINING: _buffers(model, args.ds.zero_stage)}, "gathered parameters, reduce bucket"),
        Item("step workspace", {} if offload else {STEP: at_once}, "gradients in fp32"),
        Item("activations", {TRAINING: activation_bytes(model, tokens, checkpointing)}, note),
        Item("logits", {TRAINING: logit_bytes(args, model)}, f"actor.fused_head {args.actor.fused_head}"),
    ]


@cache
def _known(name: str) -> Architecture:
    return load(name)


def teacher_bytes(args: SimpleNamespace) -> float:
    """Parameters of one rank of the teacher, wherever they lie; 0 where none is loaded. UserError: no such model."""
    name = teacher_folder(args)
    nodes, gpus = placement(args, "teacher")
    return parameter_bytes(_known(name), args.ds.zero_stage, nodes * gpus) if name else 0.0


def reference_bytes(args: SimpleNamespace, model: Architecture) -> float:
    """The same of the policy before the run, where it is kept."""
    nodes, gpus = placement(args, "ref")
    return parameter_bytes(model, args.ds.zero_stage, nodes * gpus) if has_reference(args) else 0.0


def _frozen_items(args: SimpleNamespace, name: str, size: float, offload: bool) -> list[Item]:
    if not size:
        return []
    if offload:
        return [Item(name, {}, f"{size / GIB:.1f} on the host for each of its GPUs")]
    if not (args.train.colocate_all or args.train.colocate_actor_ref):
        return [Item(name, {}, f"{size / GIB:.1f} on each GPU of its own")]
    return [Item(name, dict.fromkeys(PHASES if args.train.colocate_all else (TRAINING, STEP), size), "bf16")]


def engine_weights(args: SimpleNamespace, model: Architecture) -> float:
    return 2.0 * model.parameters / args.vllm.tensor_parallel_size


def _engine_items(args: SimpleNamespace, model: Architecture, cache: float) -> list[Item]:
    """In the trainer's phases an engine that shares its GPUs is there as well, asleep or not."""
    sizes = {"vLLM weights": engine_weights(args, model), "KV cache": cache, "vLLM workspace": float(ENGINE_WORKSPACE)}
    left = {"vLLM workspace": float(ASLEEP)} if args.vllm.enable_sleep else sizes
    beside = (TRAINING, STEP) if args.train.colocate_all else ()
    notes = {"vLLM workspace": "assumed"}
    return [
        Item(name, {ROLLOUTS: size} | dict.fromkeys(beside, left.get(name, 0.0)), notes.get(name, ""))
        for name, size in sizes.items()
    ]


def _host_bytes(args: SimpleNamespace, model: Architecture) -> float:
    _, gradients, optimizer = _static(args, model)
    asleep = gradients + (0.0 if args.ds.adam_offload else optimizer) if args.ds.enable_sleep else 0.0
    asleep += engine_weights(args, model) if args.vllm.enable_sleep else 0.0
    offloaded = optimizer + optimizer / 3 if args.ds.adam_offload else 0.0  # a third: gradients in fp32
    copied = checkpoint_bytes(args, model) / (args.actor.num_nodes * args.actor.num_gpus_per_node)
    copied *= args.run.background_save and not args.ckpt.disable_ds
    frozen = teacher_bytes(args) * args.teacher.offload * placement(args, "teacher")[1]
    frozen += reference_bytes(args, model) * args.ref.offload * placement(args, "ref")[1]
    kept = older_weights(args) * optimizer / 3  # a third: its weights
    return (asleep + offloaded + copied + kept) * args.actor.num_gpus_per_node + frozen


def checkpoint_bytes(args: SimpleNamespace, model: Architecture) -> float:
    """fp32 weights, Adam's moments and older weights, and below ZeRO-3 the bf16 weights beside them."""
    return ((14.0 if args.ds.zero_stage < 3 else 12.0) + 4.0 * older_weights(args)) * model.parameters


def older_weights(args: SimpleNamespace) -> int:
    """How many fp32 copies of the weights are kept to sample with (contrast.stages)."""
    return args.contrast.snapshots if args.contrast.stages else 0


def checkpoints_kept(args: SimpleNamespace) -> int:
    """At once: ckpt.max_num, the best one, and one that is being written before an older one goes."""
    best = bool(args.eval.dataset) and args.ckpt.best_metric_key != "none"
    return args.ckpt.max_num + best + 1


def _buffers(model: Architecture, stage: int) -> float:
    gathered = 2.0 * min(LIVE, model.parameters) if stage == 3 else 0.0
    return gathered + 2.0 * min(BUCKET, model.parameters)
