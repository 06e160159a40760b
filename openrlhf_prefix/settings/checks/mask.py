"""A mask has a share and what its score needs, and an optimizer that leaves a weight without a gradient alone."""

from openrlhf_prefix.algorithm.mask import SCORES, needs_examples
from openrlhf_prefix.settings.checks.facts import Facts, Rule


def _on(a: Facts) -> bool:
    return a.mask.method is not None


TABLE: list[Rule] = [
    (
        lambda a: not _on(a) and (a.mask.share is not None or a.mask.file),
        "mask.share and mask.file have no effect without a score: give --mask.method, or leave them out",
    ),
    (
        lambda a: a.mask.share is not None and not 0 < a.mask.share < 1,
        "mask.share is {a.mask.share}: a share of the weights lies between 0 and 1",
    ),
    (
        lambda a: a.mask.examples < 1,
        "mask.examples is {a.mask.examples}: give at least 1, or --mask.method magnitude, which needs none",
    ),
    (
        lambda a: a.mask.update_steps,
        "mask.update_steps is {a.mask.update_steps}: a mask is chosen once, before the first step; one that moves is "
        "not here, and brings nothing by its own paper (arXiv 2412.13488); leave it at 0",
    ),
    (
        lambda a: _on(a) and a.mask.file and not needs_examples(a.mask.method),
        "mask.method {a.mask.method} looks at no examples: leave mask.file out, or choose another score",
    ),
    (
        lambda a: _on(a) and SCORES[a.mask.method].freezes and not a.mask.file,
        "mask.method {a.mask.method} keeps the weights that certain examples need: name the file with their prompts "
        "and demonstrations in --mask.file",
    ),
    (
        lambda a: _on(a) and a.ds.lora.rank,
        "mask.method with ds.lora.rank: with adapters the weights that a mask chooses from do not train; leave one of "
        "them out",
    ),
    (
        lambda a: _on(a) and a.actor.optim != "adam",
        "mask.method with actor.optim {a.actor.optim}, which moves weights that have no gradient too: use adam",
    ),
    (
        lambda a: _on(a) and a.ds.tensor_parallel_size > 1,
        "mask.method with ds.tensor_parallel_size {a.ds.tensor_parallel_size}: a mask is chosen over whole weights; "
        "leave one of them out",
    ),
]
