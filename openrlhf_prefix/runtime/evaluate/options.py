"""Options of every verb that samples a model with an engine of its own: sampling, reading of rows, the engine."""

import argparse
from typing import Any

from openrlhf_prefix.data.files import check_template
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation.templates import TEMPLATES
from openrlhf_prefix.reward.answer import FALLBACKS


def add_sampling(parser: Any, temperature: float) -> None:
    parser.add_argument("--temperature", type=float, default=temperature, help="of the sampling")
    parser.add_argument("--top_p", type=float, default=1.0, help="of the sampling")
    parser.add_argument("--max_new_tokens", type=int, default=8192, help="tokens of a response")
    parser.add_argument(
        "--max_len", type=int, help="tokens of prompt and response, at most; a longer prompt is refused"
    )
    parser.add_argument("--stop_strings", nargs="*", default=[], help="as --rollout.stop_strings of the run")
    parser.add_argument("--stop_token_ids", nargs="*", type=int, default=[], help="as --rollout.stop_token_ids")
    parser.add_argument("--seed", type=int, default=42, help="of the sampling")


def add_reading(parser: Any) -> None:
    parser.add_argument("--max_samples", type=int, default=int(1e8), help="problems of every task, the first ones")
    parser.add_argument(
        "--split", default="train", help="of a folder of datasets or a hub name; or the first there is"
    )
    parser.add_argument("--input_key", default="prompt", help="column of the problems")
    parser.add_argument("--label_key", default="answer", help="column of the answers")
    parser.add_argument("--template", choices=list(TEMPLATES), help="text around a question; without it: own")
    parser.add_argument("--no_chat_template", action="store_true", help="send the prompt as it is")
    parser.add_argument("--input_template", help="data.input_template of the run, in place of the chat template")
    parser.add_argument("--reward_file", help="the run's --reward.remote_url, a .py file: it judges instead of us")
    parser.add_argument("--fallback", choices=list(FALLBACKS), default="none", help="answer of a text without a box")


def add_engine(parser: Any) -> None:
    parser.add_argument("--tensor_parallel_size", type=int, default=1, help="GPUs of an engine")
    parser.add_argument("--gpu_memory_utilization", type=float, default=0.8, help="share of a GPU")
    parser.add_argument("--trust_remote_code", action="store_true", help="run the Python code that the model brings")


def check_sampling(options: argparse.Namespace) -> None:
    """UserError for numbers that no engine takes, and for two texts around one question."""
    if options.max_new_tokens < 1 or options.max_samples < 1 or (options.samples is not None and options.samples < 1):
        raise UserError("--samples, --max_samples and --max_new_tokens are at least 1")
    if options.temperature < 0 or not 0 < options.top_p <= 1:
        raise UserError("--temperature is at least 0, and --top_p lies in (0, 1]")
    check_template(options.input_template)
    given = {"--template": options.template, "--input_template": options.input_template}
    given["--no_chat_template"] = options.no_chat_template or None
    if len(named := [name for name, value in given.items() if value is not None]) > 1:
        raise UserError(f"{' and '.join(named)} exclude each other: each says what stands around a question")
