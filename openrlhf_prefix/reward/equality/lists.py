r"""What a list of items holds: opened systems and sets, \pm written out, names that hold for all, values by name.

spread(\pm 2)           == two items, -2 and 2         bundles(x=1, y=2)  == names (x, y), rows [(1, 2)]
spread(x = 2, 3)        == x = 2, x = 3                bundles((1, 2))    == no names,     rows [(1, 2)]
"""

from dataclasses import dataclass

from openrlhf_prefix.reward.grammar import trees
from openrlhf_prefix.reward.grammar.answers import Answer
from openrlhf_prefix.reward.grammar.cursor import Node

PARAMETER = "\\k "  # begins no name that an answer can have
_JOINED = frozenset(("rel", "phrase", "cong", "group", "set", "cases"))
_EVERYWHERE = frozenset(("Z", "N", "N+"))


def spread(items: tuple[Node, ...], together: bool = True) -> tuple[bool, list[Node]]:
    """Whether the items are a set, so that none counts twice, and the items themselves."""
    items = opened(items)
    found = [one for item in items for one in trees.spread_signs(item, together)]
    if len(items) == 1 and items[0][0] == "set" and not any(one[0] in ("set", "empty") for one in items[0][1:]):
        inner = [one for item in items[0][1:] for one in trees.spread_signs(item, together)]
        return True, _named(inner)
    return False, _named(found)


def opened(items: tuple[Node, ...]) -> tuple[Node, ...]:
    """A system of equations as its rows; without "k in Z", which only says what a letter is."""
    if len(items) == 1 and items[0][0] == "cases" and all(len(row) == 1 for row in items[0][1]):
        items = tuple(row[0] for row in items[0][1])
    if len(items) == 1 and items[0][0] == "list":
        items = items[0][1:]
    kept = tuple(item for item in items if not _is_declaration(item))
    return kept if kept and len(kept) < len(items) else items


def _is_declaration(item: Node) -> bool:
    return item[0] == "rel" and item[2] == ("in",) and item[1][1][0] == "name" and item[1][1][1] in _EVERYWHERE


def parameters(answer: Answer) -> tuple[Answer, list[str]]:
    r"""x = k\pi, k in Z with a name of our own for k, and the sets that such letters range over.

    \{k\pi \mid k in Z\} and \{x \mid x = k\pi, k in Z\} are read alike.
    """
    items, joins = answer.items, answer.joins
    if len(items) == 1 and items[0][0] == "builder" and any(map(_is_declaration, items[0][2:])):
        head, *rest = items[0][1:]
        named = head[0] == "sym" and any(not _is_declaration(one) for one in rest)
        items = tuple(rest) if named else (head, *rest)
        joins = (",",) * len(items)
    domains: list[str] = []
    for item in [one for one in items if _is_declaration(one) and one[1][0][0] == "sym"]:
        others = [one for one in items if one is not item]
        if not others or not all(item[1][0][1] in trees.symbols(one) or _is_declaration(one) for one in others):
            continue
        name = ("sym", f"{PARAMETER}{len(domains)}")
        domains.append(item[1][1][1])
        kept = [(one, join) for one, join in zip(items, joins, strict=True) if one is not item]
        items = tuple(trees.replaced(one, item[1][0], name) for one, _ in kept)
        joins = tuple(join for _, join in kept)
    return (Answer(items, joins, answer.choice) if domains else answer), domains


def _named(items: list[Node]) -> list[Node]:
    """x = 2, 3 says x = 2, x = 3; n = 1, 3 (mod 8) likewise, from its end."""
    first, last = items[0], items[-1]
    if len(items) > 1 and last[0] == "cong" and all(item[0] != "cong" for item in items[:-1]):
        name = first[1][0] if first[0] == "rel" and len(first[1]) == 2 else None
        residues = [first[1][1] if name else first, *items[1:-1]]
        names = (name,) if name else ()
        if all(residue[0] != "rel" for residue in residues):
            return [*(("cong", (*names, one), last[2]) for one in residues), ("cong", (*names, last[1][-1]), last[2])]
    if first[0] != "rel" or first[2] not in (("=",), ("ne",)) or not trees.is_name(first[1][0]):
        return items
    rest = [
        item if item[0] in ("rel", "phrase", "cong") else ("rel", (first[1][0], item), first[2]) for item in items[1:]
    ]
    return [first, *rest]


@dataclass(frozen=True)
class Bundle:
    """Rows of values that belong together; `names` of the columns, None without any; `listed`: without brackets."""

    names: tuple[str, ...] | None
    rows: list[tuple[Node, ...]]
    listed: bool = False

    def ordered(self, order: list[int]) -> "Bundle":
        names = tuple(self.names[index] for index in order) if self.names else None
        return Bundle(names, [tuple(row[index] for index in order) for row in self.rows])


def bundles(answer: Answer) -> Bundle | None:
    """Values of two or more names, tuples, or values listed with commas; None for what is none of them."""
    items = opened(answer.items)
    if any(trees.has(item, "pm") for item in items):
        return None
    if all(item[0] == "group" and item[1] + item[2] == "()" for item in items):
        return Bundle(None, [item[3:] for item in items])
    pairs = [pair for item in _distributed(items) for pair in _assignments(item)]
    if not pairs:
        listed = len(items) > 1 and set(answer.joins) == {","} and not any(item[0] in _JOINED for item in items)
        return Bundle(None, [items], listed=True) if listed else None
    if not all(_assignments(item) for item in _distributed(items)):
        return None
    names = [repr(name) for name, _ in pairs]
    width = len(set(names))
    if width < 2 or len(names) % width or names != names[:width] * (len(names) // width):
        return None
    if len({_stem(name) for name, _ in pairs}) == 1:
        return None
    values = [value for _, value in pairs]
    return Bundle(tuple(names[:width]), [tuple(values[at : at + width]) for at in range(0, len(values), width)])


def _distributed(items: tuple[Node, ...]) -> list[Node]:
    """(x, y) = (5, 8), (8, 5): the names hold for both."""
    first = items[0]
    if first[0] == "rel" and first[1][0][0] == "group":
        return [first, *(("rel", (first[1][0], one), ("=",)) if one[0] == "group" else one for one in items[1:])]
    return list(items)


def _assignments(item: Node) -> list[tuple[Node, Node]]:
    if item[0] != "rel" or item[2] != ("=",) or not trees.is_name(item[1][0]):
        return []
    name, value = item[1]
    if name[0] == "group":
        matched = value[0] == "group" and len(name) == len(value)
        return list(zip(name[3:], value[3:], strict=True)) if matched else []
    return [(name, value)]


def _stem(name: Node) -> str:
    """x of x_1: the roots of one equation are in no order."""
    return str(name[1]) if name[0] == "app" else repr(name)
