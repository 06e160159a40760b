"""Questions about a formula's tree, and changes to it, that need no value."""

from collections.abc import Iterator
from fractions import Fraction

from openrlhf_prefix.reward.grammar.cursor import Node

_NAMING = frozenset(("sym", "app", "mul", "div", "ratio", "group", "time"))
Row = tuple[Node, ...]


def nodes(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for part in node[1:]:
        if isinstance(part, tuple):
            if part and isinstance(part[0], str):
                yield from nodes(part)
            else:
                for inner in part:
                    if isinstance(inner, tuple):
                        yield from nodes(inner) if inner and isinstance(inner[0], str) else _rows(inner)


def _rows(row: tuple[object, ...]) -> Iterator[Node]:
    for entry in row:
        if isinstance(entry, tuple):
            yield from nodes(entry)


def symbols(node: Node) -> set[str]:
    """Free variables; i is the imaginary unit, and the variable of a sum is bound."""
    if node[0] == "sym":
        return set() if node[1] == "i" else {node[1]}
    if node[0] in ("sum", "prod"):
        return (symbols(node[2]) | symbols(node[3]) | symbols(node[4])) - {node[1]}
    if node[0] == "phrase":
        return set().union(*(symbols(part) for part in node[1:] if isinstance(part, tuple)))
    found: set[str] = set()
    for part in node[1:]:
        if isinstance(part, tuple) and part:
            if isinstance(part[0], str):
                found |= symbols(part)
            else:
                found |= set().union(*(symbols(inner) for inner in part if inner and isinstance(inner[0], str)))
    return found


def is_constant(node: Node) -> bool:
    """No free variable and no unknown function: a number."""
    return not symbols(node) and not has(
        node, "app", "name", "group", "set", "matrix", "phrase", "rel", "cases", "base"
    )


def has(node: Node, *kinds: str) -> bool:
    return any(one[0] in kinds for one in nodes(node))


def is_name(node: Node) -> bool:
    """What only names a quantity: x, a_n, f(x), AB, |AB|, A:B, (a, b); not 2x + z, which an equation relates."""
    kind = node[0]
    if kind in ("sym", "app"):
        return True
    if kind == "call":
        return node[1] in ("abs", "max", "min") and is_name(node[2])
    if kind == "group":
        return all(is_name(part) for part in node[3:])
    return kind in _NAMING and all(is_name(part) for part in node[1:])


def spread_signs(node: Node, together: bool = True) -> list[Node]:
    r"""The formulas that \pm and \mp stand for: both upper signs and both lower ones, or each sign for itself."""
    count = sum(one[0] == "pm" for one in nodes(node))
    if not count or count > 6:
        return [node]
    if together:
        return [_with_signs(node, iter([sign] * count)) for sign in (1, -1)]
    choices = [[1 if index >> bit & 1 else -1 for bit in range(count)] for index in range(2**count)]
    return [_with_signs(node, iter(choice)) for choice in choices]


def _with_signs(node: Node, signs: Iterator[int]) -> Node:
    if node[0] == "pm":
        sign = next(signs) * node[3]
        left = _with_signs(node[1], signs) if node[1] is not None else None
        right = _with_signs(node[2], signs)
        right = right if sign > 0 else ("neg", right)
        return right if left is None else ("add", left, right)
    parts = []
    for part in node[1:]:
        if isinstance(part, tuple) and part and isinstance(part[0], str):
            parts.append(_with_signs(part, signs))
        elif isinstance(part, tuple) and part and isinstance(part[0], tuple) and node[0] in ("rel", "cong"):
            parts.append(tuple(_with_signs(inner, signs) for inner in part))
        else:
            parts.append(part)
    return (node[0], *parts)


def matrix(node: Node) -> tuple[Row, ...] | None:
    """Rows of a matrix, of its sum or product with others, of a multiple of it; None for anything else."""
    kind = node[0]
    if kind == "matrix":
        return node[1] if len({len(row) for row in node[1]}) == 1 else None
    if kind == "neg" and (inner := matrix(node[1])):
        return _each(inner, lambda entry: ("neg", entry))
    if kind == "div" and (inner := matrix(node[1])):
        return _each(inner, lambda entry: ("div", entry, node[2]))
    if kind not in ("mul", "add"):
        return None
    found: tuple[Row, ...] | None = None
    scalars = []
    for part in node[1:]:
        rows = matrix(part)
        if rows is None:
            scalars.append(part)
        elif found is None:
            found = rows
        else:
            found = _product(found, rows) if kind == "mul" else _sum(found, rows)
            if found is None:
                return None
    if found is None or (kind == "add" and scalars):
        return None
    return _each(found, lambda entry: ("mul", *scalars, entry)) if scalars else found


def _each(rows: tuple[Row, ...], change) -> tuple[Row, ...]:
    return tuple(tuple(change(entry) for entry in row) for row in rows)


def _sum(left: tuple[Row, ...], right: tuple[Row, ...]) -> tuple[Row, ...] | None:
    if len(left) != len(right) or len(left[0]) != len(right[0]):
        return None
    return tuple(tuple(("add", a, b) for a, b in zip(p, q, strict=True)) for p, q in zip(left, right, strict=True))


def _product(left: tuple[Row, ...], right: tuple[Row, ...]) -> tuple[Row, ...] | None:
    if len(left[0]) != len(right):
        return None
    columns = list(zip(*right, strict=True))
    return tuple(
        tuple(("add", *(("mul", a, b) for a, b in zip(row, column, strict=True))) for column in columns)
        for row in left
    )


def times(node: Node, factor: Fraction) -> Node:
    """node * factor; a literal decimal keeps its places in another unit."""
    if factor == 1:
        return node
    if node[0] == "rel":
        return ("rel", (*node[1][:-1], times(node[1][-1], factor)), node[2])
    return ("mul", node, ("num", factor, None))


def replaced(node: Node, old: Node, new: Node) -> Node:
    """The tree with every `old` in it replaced."""
    if node == old:
        return new
    return tuple(replaced(part, old, new) if isinstance(part, tuple) else part for part in node)


def has_call(node: Node, name: str) -> bool:
    """Whether a function of that name is called anywhere in it."""
    return any(one[:2] == ("call", name) for one in nodes(node))


def accented(name: str, inner: Node) -> Node:
    r"""\vec{AB} is not \vec{BA}; \overline{AB} and \triangle ABC are in no order, \angle ABC is \angle CBA."""
    names = inner[1:] if inner[0] == "mul" else ()
    segment = name in ("overline", "bar", "triangle", "odot") and all(str(one[1]).isupper() for one in names)
    if not names or segment or any(one[0] not in ("sym", "const") for one in names):
        return ("app", name, inner)
    backwards = "angle" in name and repr(names) > repr(names[::-1])
    return ("app", name, *(names[::-1] if backwards else names))
