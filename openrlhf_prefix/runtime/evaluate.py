"""The `evaluate` verb: accuracy of an HF folder on datasets, sampled by vLLM, no trainer and no Ray.

Same prompts, same verifier and same metrics as the held-out evaluation of a run, so that an exported model can be
checked against the number its run reported.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from openrlhf_prefix.algorithm.sampler import EVALUATION, request_seed
from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.data.files import check_datasets, check_exists, check_template
from openrlhf_prefix.data.problems import Problem, load_problems
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation.scores import score_line, scores
from openrlhf_prefix.reward import MathVerifier
from openrlhf_prefix.reward.answer import FALLBACKS
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.settings.config import nested
from openrlhf_prefix.settings.model import load_tokenizer


def main(argv: Sequence[str]) -> None:
    """Prints one line a dataset: avg@n with its interval over problems, and pass@k; --json keeps more."""
    options = _parse(argv)
    flags = _flags(options)
    check_exists("MODEL", options.model)
    for name in options.datasets:
        check_datasets("DATASET", name)
    tokenizer = load_tokenizer(flags)
    sets = [
        load_problems(name, flags, tokenizer, options.max_new_tokens, "train", held_out=True)
        for name in options.datasets
    ]
    rewards = sample_rewards(options, [problem for problems in sets for problem in problems], tokenizer)
    results, start = [], 0
    for name, problems in zip(options.datasets, sets, strict=True):
        correct = [sum(reward > 0 for reward in row) for row in rewards[start : start + len(problems)]]
        start += len(problems)
        results.append({"dataset": name, **scores(correct, options.samples, options.k)})
        label = f"{Path(name).name}: " if len(sets) > 1 else ""
        print(label + score_line(results[-1], options.samples))
    if options.json:
        record = {"model": options.model, "samples": options.samples, "datasets": results}
        options.json.write_text(json.dumps(record) + "\n", encoding="utf-8")


def sample_rewards(options: argparse.Namespace, problems: list[Problem], tokenizer: object) -> list[list[float]]:
    """Rewards of `options.samples` responses to every problem."""
    chosen = adapter.choose()
    chosen.check_installed()
    os.environ.update(chosen.engine_environment())
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # it logs to stdout, which is for the result
    chosen.patch_engine()
    from vllm import LLM, SamplingParams

    engine = LLM(
        options.model,
        dtype="bfloat16",
        max_model_len=options.max_len,
        tensor_parallel_size=options.tensor_parallel_size,
        gpu_memory_utilization=options.gpu_memory_utilization,
        disable_log_stats=True,
        use_tqdm_on_load=False,
        trust_remote_code=options.trust_remote_code,
        **chosen.engine_options(),
    )
    slots = [(problem, slot) for problem in problems for slot in range(options.samples)]
    params = [
        SamplingParams(
            temperature=options.temperature,
            max_tokens=options.max_new_tokens,
            stop=options.stop_strings or None,
            stop_token_ids=options.stop_token_ids or None,
            include_stop_str_in_output=True,
            seed=request_seed(options.seed, EVALUATION, problem.id, slot),
        )
        for problem, slot in slots
    ]
    prompts = [{"prompt_token_ids": problem.prompt_ids.tolist()} for problem, _ in slots]
    texts = [output.outputs[0].text for output in engine.generate(prompts, params)]
    with MathVerifier(fallback=options.fallback) as verifier:
        scores = verifier.score(texts, [problem.answer for problem, _ in slots])
    values = [score.value for score in scores]
    return [values[start : start + options.samples] for start in range(0, len(values), options.samples)]


def parser() -> Parser:
    parser = parser_of("evaluate", "Accuracy of an HF folder on sets of problems, sampled by vLLM: avg@n and pass@k.")
    parser.add_argument("model", metavar="MODEL", help="HF folder or hub name")
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="file of problems, as for training")
    parser.add_argument("--samples", type=int, default=4, help="responses to every problem")
    parser.add_argument("--k", nargs="+", type=int, help="of pass@k; at most --samples, which is the default")
    parser.add_argument("--max_samples", type=int, default=int(1e8), help="problems of every dataset, the first ones")
    parser.add_argument("--json", type=Path, help="file for the numbers, those of every problem among them")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the sampling")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="tokens of a response")
    parser.add_argument("--max_len", type=int, default=128, help="tokens of prompt and response")
    parser.add_argument("--stop_strings", nargs="*", default=[], help="as --rollout.stop_strings of the run")
    parser.add_argument("--stop_token_ids", nargs="*", type=int, default=[], help="as --rollout.stop_token_ids")
    parser.add_argument("--seed", type=int, default=42, help="of the sampling")
    parser.add_argument("--tensor_parallel_size", type=int, default=1, help="GPUs of an engine")
    parser.add_argument("--gpu_memory_utilization", type=float, default=0.8, help="share of a GPU")
    parser.add_argument("--input_key", default="prompt", help="column of the problems")
    parser.add_argument("--label_key", default="answer", help="column of the answers")
    parser.add_argument("--fallback", choices=list(FALLBACKS), default="none", help="answer of a text without a box")
    parser.add_argument("--trust_remote_code", action="store_true", help="run the Python code that the model brings")
    parser.add_argument("--no_chat_template", action="store_true", help="send the prompt as it is")
    parser.add_argument("--input_template", help="data.input_template of the run, in place of the chat template")
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    options = parser().parse_args(argv)
    if options.samples < 1 or options.max_new_tokens < 1:
        raise UserError("--samples and --max_new_tokens are at least 1")
    options.k = options.k or [options.samples]
    if not all(1 <= k <= options.samples for k in options.k):
        raise UserError(f"pass@k needs 1 <= k <= --samples {options.samples}: --k is {options.k}")
    check_template(options.input_template)
    if options.json and not options.json.parent.is_dir():
        raise UserError(f"--json {options.json}: there is no folder {options.json.parent}")
    return options


def _flags(options: argparse.Namespace) -> SimpleNamespace:
    """The flags that the readers of problems and tokenizers look at."""
    return nested(
        {
            "actor.model_name_or_path": options.model,
            "model.trust_remote_code": options.trust_remote_code,
            "model.max_position_embeddings": None,
            "reward.model_name_or_path": None,
            "data.input_key": options.input_key,
            "data.label_key": options.label_key,
            "data.input_template": options.input_template,
            "data.apply_chat_template": not options.no_chat_template and options.input_template is None,
            "data.disable_fast_tokenizer": False,
            "data.max_samples": options.max_samples,
            "data.max_len": options.max_len,
            "data.long_prompts": "refuse",
            "hybrid.demonstration": "prefix",
            "hybrid.sft_steps": 0,
            "hybrid.rescue": "none",
            "prefix.demonstrations_key": None,
            "prefix.demonstration_fraction": 1.0,
            "prefix.long_demonstrations": "refuse",
            "prefix.stop_before_answer": True,
            "train.seed": options.seed,
        }
    )
