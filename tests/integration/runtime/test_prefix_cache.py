"""vLLM keeps the attention cache of what rows share; on a CPU a row is the same whether it was there before or not."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("vllm")

from openrlhf_prefix.runtime.platform import adapter

CODE = """
import random
import sys

import torch
import vllm
from transformers import Qwen2Config, Qwen2ForCausalLM
from vllm.inputs import TokensPrompt

from openrlhf_prefix.runtime.platform import adapter

torch.manual_seed(0)
sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 512}
config = Qwen2Config(vocab_size=20, num_attention_heads=2, num_key_value_heads=2, eos_token_id=0, **sizes)
Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(sys.argv[1])

chosen = adapter.current()
extras = {"worker_extension_cls": chosen.worker_extension, **chosen.engine_options()}
flags = {"max_model_len": 400, "enable_prefix_caching": True, "skip_tokenizer_init": True, "disable_log_stats": False}
engine = vllm.LLM(model=sys.argv[1], **flags, **extras)
draw = random.Random(0)
shared = [draw.randrange(3, 20) for _ in range(300)]  # two blocks of 128 and a part of one
prompts = [TokensPrompt(prompt_token_ids=shared + [number]) for number in range(4, 10)]
params = [vllm.SamplingParams(max_tokens=24, seed=n, logprobs=0, detokenize=False) for n in range(6)]


def rows():
    outputs = [one.outputs[0] for one in engine.generate(prompts, params, use_tqdm=False)]
    return [[(token, at[token].logprob) for token, at in zip(one.token_ids, one.logprobs)] for one in outputs]


def hits():
    return sum(metric.value for metric in engine.get_metrics() if metric.name == "vllm:prefix_cache_hits")


cold, of_group = rows(), hits()
warm, of_all = rows(), hits()
engine.reset_prefix_cache()
again = rows()
assert of_group == 5 * 256, of_group  # the first row fills two blocks, and the others find them
assert of_all - of_group == 6 * 256, of_all
assert cold == warm == again
"""


def test_a_row_does_not_depend_on_what_the_cache_holds(tmp_path) -> None:
    variables = {**os.environ, adapter.VARIABLE: "cpu", "VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
    variables |= adapter.CpuPlatform().engine_environment()
    command = [sys.executable, "-W", "ignore", "-c", CODE, str(tmp_path / "model")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
