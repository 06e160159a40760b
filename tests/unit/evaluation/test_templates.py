"""The texts around a question: every character counts, so their digests are noted here.

The three texts were compared with those of LUFFY's repository (01f4ae0) character by character: `luffy` with the
system message of all 6,023 rows of data/valid.all.parquet, `qwen` and `zero` with eval_scripts/generate_vllm.py.
"""

import hashlib

import pytest

from openrlhf_prefix.evaluation.templates import TEMPLATES, Template, template_hash


@pytest.mark.parametrize(
    ("name", "digest"),
    [("own", "e107e08d7733"), ("luffy", "f54ce993f17a"), ("qwen", "a3291be19fd2"), ("zero", "8cb342436e1c")],
)
def test_the_texts_are_the_published_ones(name: str, digest: str) -> None:
    template = TEMPLATES[name]
    text = f"{template.before}|{template.after}|{template.system}"
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == digest


def test_the_hash_sees_every_part() -> None:
    changed = [
        Template("a", "b"),
        Template("a", "c"),
        Template("ab", ""),
        Template("", "ab"),
        Template("a", "b", system="s"),
        Template(chat=True),
    ]
    assert len({template_hash(template) for template in changed}) == len(changed)


def test_the_models_own_template_counts_where_it_is_used() -> None:
    own, qwen = TEMPLATES["own"], TEMPLATES["qwen"]
    assert template_hash(own, "x") != template_hash(own, "y")
    assert template_hash(qwen, "x") == template_hash(qwen, "y") == template_hash(qwen)
