"""Values of flags where the authors' code differs from the paper's text, chosen by --prefix.compat.

docs/55-official-code.md says why each is not the default. One that needs another flag's value beside it (BESIDE) is
given where the method has that.
"""

COMPAT: dict[str, dict[str, object]] = {
    "paper": {},
    "official": {
        "hybrid.estimator": "dr_grpo_prefix",  # the continuation is a group of its own and is not centred
        "actor.dual_clip": 3.0,
        "actor.entropy_coef": 0.001,
        "prefix.in_entropy": True,
        "prefix.stop_before_answer": False,  # a prefix may hold all but the last token, the answer included
    },
}
BESIDE: dict[str, tuple[str, object]] = {
    "hybrid.estimator": ("hybrid.baseline", "plain"),
    "actor.dual_clip": ("hybrid.clip", True),
}
