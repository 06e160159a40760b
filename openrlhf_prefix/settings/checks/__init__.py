"""What cannot hold together, refused with cause and mend before a run starts: a table, by subject.

    (condition, sentence)      flags of which `condition` is true cannot run; `sentence` is filled in from them

numbers   sizes, counts and shares         method   a preset's flags, the prefixes' and the supervised stage's
batches   rows, ranks, GPUs                loss     terms of the loss that would fail in a worker, or do nothing
stack     what Ray, DeepSpeed and vLLM do  files    what has to be there
teacher   a model that knows more than the policy         contrast demonstrations against own samples
mask      weights that do not train                       irl      a reward that is learnt from demonstrations

Flags of OpenRLHF that are refused whatever the others say are rows of settings/upstream_flags.py.
"""

import argparse
from types import SimpleNamespace

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings.checks import batches, contrast, irl, loss, mask, method, numbers, stack, teacher
from openrlhf_prefix.settings.checks.facts import Facts
from openrlhf_prefix.settings.checks.files import check_files

__all__ = ["TABLE", "check_files", "check_flags"]

TABLE = (
    *(*numbers.TABLE, *method.TABLE, *batches.TABLE, *loss.TABLE),
    *(*stack.TABLE, *teacher.TABLE, *contrast.TABLE, *irl.TABLE, *mask.TABLE),
)


def check_flags(args: argparse.Namespace | SimpleNamespace) -> None:
    """Checks that need no file and no cluster; `args` is nested. Raises UserError with the first that holds."""
    flags = Facts(args)
    for condition, sentence in TABLE:
        if condition(flags):
            raise UserError(sentence.format(a=flags))
