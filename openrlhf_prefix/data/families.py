"""The families of embedded problems, by name; another one is put beside them."""

from openrlhf_prefix.data import chains, precedence
from openrlhf_prefix.data.tasks import Family

FAMILIES: dict[str, Family] = {family.name: family for family in (chains.FAMILY, precedence.FAMILY)}
