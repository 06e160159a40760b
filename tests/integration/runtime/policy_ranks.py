"""Training ranks in plain processes, without Ray and engines: the real PrefixPolicy on a model of 20k parameters."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from openrlhf_prefix.data import tiny_tokenizer
from openrlhf_prefix.data.chains import INSTRUCTION
from openrlhf_prefix.runtime.audit.exactness.measure import free_port
from openrlhf_prefix.runtime.context import RunContext
from openrlhf_prefix.runtime.platform import adapter

ROWS, PROMPT, LENGTH = 8, 4, 12  # of one optimizer step


def make_source(folder: Path, tied: bool) -> Path:
    """An HF folder with tokenizer, chat template and two stop ids; random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(5)
    tokenizer = tiny_tokenizer.make_tokenizer(INSTRUCTION)
    sizes = {"hidden_size": 16, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), tie_word_embeddings=tied, **sizes, **heads))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, 5]
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_ranks(ranks: int, job: Callable[..., None], *arguments: Any, seconds: float = 600.0) -> None:
    """`job(*arguments)` on as many processes, each of which can then make policies.

    Raises what one of them raised; AssertionError where that was one, or where they are not done after `seconds`.
    """
    world = torch.multiprocessing.spawn(_rank, args=(ranks, free_port(), job, arguments), nprocs=ranks, join=False)
    end = time.monotonic() + seconds
    try:
        while not world.join(timeout=1.0):
            assert time.monotonic() < end, f"{ranks} ranks hang: not done after {seconds:g} s"
    except torch.multiprocessing.ProcessRaisedException as error:
        assert "\nAssertionError" not in str(error), str(error)
        raise
    finally:
        for process in world.processes:
            process.kill()


def _rank(rank: int, ranks: int, port: int, job: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {adapter.VARIABLE: "cpu", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= adapter.current().engine_environment()
    torch.set_num_threads(1)
    adapter.current().install()
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):  # OpenRLHF prints every model
        job(*arguments)
    torch.distributed.destroy_process_group()


def make_frozen(strategy: Any, model: Path, kind: type | None = None) -> Any:
    """A rank of the reference model, or of another `kind`, beside the policy of the same rank."""
    from openrlhf_prefix.runtime.learner.frozen import PrefixReference

    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    frozen = (kind or PrefixReference)(ranks, rank, os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"])
    frozen.init_model_from_pretrained(strategy, str(model))
    return frozen


def make_policy(model: Path, run: Path, checkpoint: str | None = None, **flags: Any) -> Any:
    """A rank of a run in the folder `run`, from the model or from one of the run's checkpoints."""
    from openrlhf.utils import get_strategy

    from openrlhf_prefix.runtime.learner.actor import PrefixPolicy
    from openrlhf_prefix.settings.config import flatten_namespace
    from openrlhf_prefix.settings.resolve import flags_of

    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    args = flags_of(
        {
            "actor.model_name_or_path": str(model),
            "actor.num_gpus_per_node": ranks,
            "actor.adam.lr": 1e-2,
            "actor.lr_scheduler": "constant",
            "ckpt.path": str(run / "checkpoints"),
            "ckpt.output_dir": str(run / "export"),
            "ckpt.load_enable": checkpoint is not None,
            "data.prompt_dataset": "random/rows",
            "ds.attn_implementation": "sdpa",
            "rollout.batch_size": ROWS // 2,
            "rollout.n_samples_per_prompt": 2,
            "rollout.max_new_tokens": LENGTH,
            "run.dir": str(run),
            "train.batch_size": ROWS,
            "train.micro_batch_size": 2,
            "vllm.num_engines": 1,
            "vllm.sync_backend": "gloo",
            **flags,
        }
    )
    args.local_rank = rank
    facts = {"flags": flatten_namespace(args), "versions": {}, "dataset": "of random rows", "problems": ROWS}
    RunContext(0.0, checkpoint, facts).attach(args)
    policy = PrefixPolicy(ranks, rank, os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"])
    policy.init_model_from_pretrained(get_strategy(args), str(model), max_steps=10)
    return policy


def completed(policy: Any) -> list[str]:
    """The tags of what was saved since the last call, once rank 0 has completed it."""
    tags = [tag for tag, _ in policy.saves(wait=True)]
    torch.distributed.barrier()
    return tags


def train(policy: Any, seed: int, advantages: float = 1.0, skipping: bool = True) -> dict[str, Any]:
    """One optimizer step on this rank's share of the rows of `seed`; returns its metrics."""
    from openrlhf.trainer.ppo_utils.experience import Experience

    from openrlhf_prefix.runtime.rows.batches import deal
    from openrlhf_prefix.runtime.rows.loss import hybrid_loss, trained_tokens, trains

    generator, rows = torch.Generator().manual_seed(seed), []
    for _ in range(ROWS):
        tokens = torch.randint(0, policy.actor.model.module.config.vocab_size, (1, LENGTH), generator=generator)
        drawn = torch.randn(1, LENGTH - 1, generator=generator)
        mask = torch.arange(1, LENGTH).unsqueeze(0) >= PROMPT
        row = Experience(
            sequences=tokens,
            attention_mask=torch.ones_like(tokens),
            action_mask=mask,
            action_log_probs=policy.forward(tokens, mask, torch.ones_like(tokens)).log_probs,
            advantages=drawn * mask * advantages,
            rewards=torch.zeros(1),
            response_length=torch.tensor([LENGTH - PROMPT]),
            total_length=torch.tensor([LENGTH]),
            truncated=torch.zeros(1),
            info={"prefix_length": torch.tensor([0])},
        )
        rows.append(row)
    args = policy.strategy.args
    loss = hybrid_loss(args)
    trained = [not skipping or trains(trained_tokens(row, loss), args) for row in rows]
    dealt = deal(rows, ROWS, torch.distributed.get_world_size(), trained)
    share = len(dealt) // torch.distributed.get_world_size()
    for row in dealt[torch.distributed.get_rank() * share :][:share]:
        policy.trainer.replay_buffer.append(row)
    status = policy.fit(0.0)
    del status["memory/learner"]  # of this process, whatever else it has done
    return status
