"""The `plan` verb: memory per GPU, steps and tokens of a run, and what to change where it does not fit.

    openrlhf-prefix plan --config configs/qwen2.5_math_7b/prefix_rft.yaml --nodes 1 --gpus-per-node 8 --gpu-memory 80

Further flags are those of `train`; --fit proposes what fits, as lines of a config. Exit code 1 where nothing does.
"""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.data.files import count, iterate
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.plan.architectures import Architecture, load
from openrlhf_prefix.plan.fit import proposal
from openrlhf_prefix.plan.memory import GIB, PHASES, Plan, checkpoints_kept, make_plan, micro_batch_tokens
from openrlhf_prefix.plan.mends import as_flags, mends
from openrlhf_prefix.settings.derived import data_parallel_ranks, gpus_needed
from openrlhf_prefix.settings.resolve import resolve


def main(argv: Sequence[str]) -> None:
    """Prints the plan; SystemExit(1) where it does not fit."""
    options, flags = parser().parse_known_args(argv)
    args = resolve(flags, files=False).args
    nodes, gpus = options.nodes or args.actor.num_nodes, options.gpus_per_node or args.actor.num_gpus_per_node
    if args.train.colocate_all and (nodes, gpus) != (args.actor.num_nodes, args.actor.num_gpus_per_node):
        placement = ["--actor.num_nodes", str(nodes), "--actor.num_gpus_per_node", str(gpus)]
        if options.fit:  # finds it out
            placement += ["--vllm.tensor_parallel_size", "1"]
        args = resolve([*flags, *placement], files=False).args
    if not args.actor.model_name_or_path:
        raise UserError("actor.model_name_or_path is not set: give --actor.model_name_or_path")
    model, capacity = load(args.actor.model_name_or_path, options.model_config), options.gpu_memory * GIB
    if options.fit:
        lines = proposal(args, model, capacity)
        print("\n".join(lines))
        if len(lines) == 1:
            raise SystemExit(1)
        return
    plan = make_plan(args, model, capacity)
    print("\n".join([*_header(args, model), "", *_table(plan), *_disk(plan, args, model), ""]))
    print("\n".join(_work(args, options.problems)))
    needed = gpus_needed(args)
    advice = _advice(plan, args, model)
    if options.nodes and needed > nodes * gpus:
        advice += [
            f"does not fit: the placement asks for {needed} GPUs, {nodes} nodes of {gpus} have {nodes * gpus}",
            "would fit with more nodes, a lower actor.num_nodes or vllm.num_engines, or train.colocate_all",
        ]
    print("\n" + ("\n".join(advice) or "fits"))
    if advice:
        raise SystemExit(1)


def _advice(plan: Plan, args: SimpleNamespace, model: Architecture) -> list[str]:
    """What does not fit into a GPU, and the flags that mend it; empty where it fits."""
    failures = [f"does not fit: {failure}" for failure in plan.failures()]
    if not failures:
        return []
    found = [f"would fit with {as_flags(change)}" for change in mends(args, model, plan.capacity)]
    return failures + (found or ["no flag mends it: take larger GPUs"])


def parser() -> Parser:
    """The options of this verb alone; the flags of `train` come beside them."""
    parser = parser_of("plan", "Memory per GPU, steps and tokens of a run, and what to change where it does not fit.")
    parser.add_argument("--nodes", type=int, default=None, help="nodes of the cluster (default: the config's)")
    parser.add_argument("--gpus-per-node", type=int, default=None, help="GPUs of each (default: the config's)")
    parser.add_argument("--gpu-memory", type=float, default=80.0, help="GiB of a GPU")
    parser.add_argument("--fit", action="store_true", help="lines of a config with which it fits, and nothing else")
    parser.add_argument("--model_config", default=None, help="config.json, for a model that is not here")
    parser.add_argument("--problems", type=int, default=None, help="problems of the data set, where it is not here")
    return parser


def _header(args: SimpleNamespace, model: Architecture) -> list[str]:
    nodes, gpus, engines = args.actor.num_nodes, args.actor.num_gpus_per_node, args.vllm.num_engines
    where = "on the same GPUs" if args.train.colocate_all else "on GPUs of their own"
    return [
        f"{model.name}: {model.parameters:,} parameters",
        f"{nodes} x {gpus} GPUs train, {engines} engines of {args.vllm.tensor_parallel_size} sample {where}",
    ]


def _table(plan: Plan) -> list[str]:
    def cells(values: Sequence[float]) -> str:
        return "".join(f"{value / GIB:>10.2f}" for value in values)

    lines = [f"{'GiB per GPU':<18}" + "".join(f"{phase:>10}" for phase in PHASES)]
    for item in plan.items:
        lines.append(
            f"{item.name:<18}{cells([item.bytes.get(phase, 0.0) for phase in PHASES])}   {item.note}".rstrip()
        )
    lines.append(f"{'sum':<18}{cells([plan.total(phase) for phase in PHASES])}   of {plan.capacity / GIB:.2f}")
    return [
        *lines,
        "",
        f"KV cache: {plan.kv_rows:.1f} rows of full length at once in an engine",
        f"host memory: {plan.host / GIB:.0f} GiB a node for what sleeps, is offloaded or is copied to be saved",
    ]


def _disk(plan: Plan, args: SimpleNamespace, model: Architecture) -> list[str]:
    export = f"an export {2.0 * model.parameters / GIB:.1f} GiB"
    if args.ckpt.disable_ds:
        return [f"disk: no checkpoint (ckpt.disable_ds); {export}"]
    kept = checkpoints_kept(args)
    most = min(kept * plan.checkpoint, args.ckpt.max_mem * GIB + plan.checkpoint)
    sizes = f"a checkpoint takes {plan.checkpoint / GIB:.1f} GiB, ckpt.path at most {most / GIB:.1f}"
    each = ", and one for every save" * args.ckpt.save_hf
    return [f"disk: {sizes} ({kept} of them, of which one is being written); {export}{each}"]


def _work(args: SimpleNamespace, given: int | None) -> list[str]:
    """Steps of an epoch and of the run, and the most tokens a step may have."""
    problems, rows = given or _problems(args), args.rollout.batch_size * args.rollout.n_samples_per_prompt
    tokens, ranks = rows * args.data.max_len, data_parallel_ranks(args)
    lines = [
        f"a step: {args.rollout.batch_size} problems, {rows} rows, {rows // args.train.batch_size} optimizer steps of "
        f"{args.train.batch_size} rows; at most {tokens / 1e6:.2f} million tokens, of which "
        f"{rows * args.rollout.max_new_tokens / 1e6:.2f} of responses; at most "
        f"{-(-tokens // (ranks * micro_batch_tokens(args))):.0f} micro-batches on each of {ranks} ranks"
    ]
    if problems is None:
        return [*lines, "an epoch: unknown, as the data set is not here; --problems says its size"]
    problems = min(problems, args.data.max_samples)
    steps = problems // args.rollout.batch_size
    return [
        *lines,
        f"an epoch: {problems} problems, {steps} steps, at most {steps * tokens / 1e9:.2f} billion tokens",
        f"the run: {args.train.num_episodes} epochs, {steps * args.train.num_episodes} steps",
    ]


def _problems(args: SimpleNamespace) -> int | None:
    """Rows of the local files of data.prompt_dataset; else data.max_samples, where that is set."""
    names = [name.strip() for name in (args.data.prompt_dataset or "").split(",") if name.strip()]
    if names and all(Path(name).expanduser().exists() for name in names):
        return sum(count(name) or sum(1 for _ in iterate(name, args.data.prompt_split)) for name in names)
    return args.data.max_samples if args.data.max_samples < 1e8 else None
