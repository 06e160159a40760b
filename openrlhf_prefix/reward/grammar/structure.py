r"""Answers: lists of items, and what stands around formulas: relations, brackets, sets, matrices, units and words.

read(r"x=1 \text{ or } x\ge 2")   two items, joined by "or"
read(r"n \text{ is even}")        one item: ("phrase", ("sym", "n"), "is", "even")

("rel", parts, operators)   ("cong", parts, modulus)   ("ratio", a, b, ..)   ("time", hour, minute)
("group", open, close, items..)   ("set", items..)   ("builder", head, conditions..)   ("either", conditions..)
("empty",)   ("name", "R")
("union"|"inter"|"minus", a, b)   ("matrix"|"cases", rows)   ("phrase", nodes and words..)
"""

from collections.abc import Sequence

from openrlhf_prefix.reward.grammar.cursor import Node
from openrlhf_prefix.reward.grammar.formula import Formula
from openrlhf_prefix.reward.grammar.tokens import Unreadable

_OPERATORS = {
    ("mark", "="): "=",
    ("mark", "<"): "<",
    ("mark", ">"): ">",
    ("mark", "|"): "mid",
    **{("cmd", name): name for name in ("le", "ge", "ne", "approx", "in", "notin", "mid", "nmid", "sim", "cong")},
    **{("cmd", name): name for name in ("subset", "subseteq", "perp", "parallel", "to", "rightarrow", "mapsto")},
    ("cmd", "equiv"): "equiv",
}
_SETS = {"cup": "union", "cap": "inter", "setminus": "minus"}
_MATRICES = {"pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"}
_CASES = {"cases", "aligned", "align", "gathered", "split", "rcases"}


class Structure(Formula):
    """Reads what holds formulas together."""

    head = False  # inside \{x | ..\}, before the bar

    def items(self, *closers: str) -> tuple[tuple[Node, ...], tuple[str, ...]]:
        """Items up to a closing mark or the end; empty ones ("2, and 3") are none."""
        self.depth += 1
        if self.depth > 60:
            raise Unreadable("too deep")
        found: list[Node] = []
        joins: list[str] = []
        join = ","
        while not self._at_end(closers):
            if self.peek().kind == "sep":
                join = _stronger(join, self.peek().text)
                self.at += 1
                continue
            found.append(self.item(closers))
            joins.append(join)
            join = ","
            if not self._at_end(closers) and self.peek().kind != "sep":
                raise Unreadable(f"{self.peek().text!r} is left over")
        self.depth -= 1
        return tuple(found), tuple(joins)

    def _at_end(self, closers: tuple[str, ...]) -> bool:
        token = self.peek()
        if token.kind == "end":
            return True
        if token.kind == "cmd":
            return token.text == "\\" or token.text.startswith("end ") or token.text in closers
        return token.kind == "mark" and (token.text in closers or token.text == "&")

    def item(self, closers: tuple[str, ...] = ()) -> Node:
        """One formula or relation, or words with formulas among them."""
        parts: list[Node | str] = []
        bars = self.bars
        self.bars = 0
        while not self._at_end(closers) and self.peek().kind != "sep":
            if self.peek().kind == "word":
                parts.append(self.tokens[self.at].text)
                self.at += 1
                parts.extend(self._unit_tail())
            elif parts and self.peek().text == ".":
                self.at += 1
            elif self.head and parts and self.peek().text in ("|", "mid", ":"):
                break
            elif parts and not isinstance(parts[-1], str):
                raise Unreadable(f"{self.peek().text!r} is left over")
            else:
                parts.append(self.relation())
        self.bars = bars
        if (
            len(parts) == 3
            and parts[1] == "divides"
            and not isinstance(parts[0], str)
            and not isinstance(parts[2], str)
        ):
            return ("rel", (parts[0], parts[2]), ("mid",))
        return parts[0] if len(parts) == 1 and not isinstance(parts[0], str) else ("phrase", *parts)

    def _unit_tail(self) -> list[str]:
        """^2, / h and * m after a word; a hyphen or colon between words says nothing."""
        found: list[str] = []
        while True:
            mark, after = self.peek(), self.peek(1)
            if mark.text == "^" and (
                after.kind == "num" or (after.text == "{" and self.peek(2).kind in ("num", "mark"))
            ):
                self.at += 1
                exponent = self.argument()
                sign, body = (-1, exponent[1]) if exponent[0] == "neg" else (1, exponent)
                if body[0] != "num":
                    raise Unreadable("a power of a word")
                found.append(f"^{sign * body[1]}")
            elif mark.text in ("/", "*") and after.kind in ("word", "let"):
                found.extend((mark.text, after.text))
                self.at += 2
            elif mark.text in ("-", ":") and after.kind == "word":
                self.at += 1
                break
            elif mark.text == "." or (mark.text == ":" and after.kind != "end"):
                self.at += 1
            else:
                break
        return found

    def relation(self) -> Node:
        """a < b <= c, n = 1 mod 3, x in S; one operand alone is itself."""
        parts: list[Node] = []
        operators: list[str] = []
        if self._operator() in ("=", "approx"):  # "= 5"
            self.at += 1
        elif self._operator() and self.peek().text != "|":
            parts.append(("sym", ""))
        else:
            parts.append(self._operand())
        while self._operator():
            operators.append(str(self._operator()))
            self.at += 1
            parts.append(self._operand())
        if not parts:
            return self.relation()
        modulus = self._modulus()
        if modulus is None and parts[-1][0] == "mod" and "equiv" in operators:
            parts[-1], modulus = parts[-1][1], parts[-1][2]
        if modulus is not None and not set(operators) <= {"equiv", "="}:
            raise Unreadable("a modulus without a congruence")
        if modulus is not None:
            return ("cong", tuple(parts), modulus)
        return ("rel", tuple(parts), tuple(operators)) if operators else parts[0]

    def _operator(self) -> str | None:
        token = self.peek()
        found = _OPERATORS.get((token.kind, token.text))
        if found == "mid" and (self.head or (token.text == "|" and self.bars)):
            return None
        return found

    def _modulus(self) -> Node | None:
        """\\pmod 3, (\\bmod 3), (mod 3)."""
        if self.is_next("cmd", "pmod"):
            self.at += 1
            return self.argument()
        if self.is_next("mark", "(") and self.peek(1).text == "mod":
            self.at += 2
            modulus = self.sum()
            self.take("mark", ")")
            return modulus
        return None

    def starts_factor(self) -> bool:
        token = self.peek()
        if token.text == "(" and self.peek(1).text == "mod":
            return False
        return not (self.head and token.text == "|") and super().starts_factor()

    def _operand(self) -> Node:
        start = self.at
        node = self._set_expression()
        if self.head or not self.is_next("mark", ":"):
            return node
        parts = [node]
        while self.is_next("mark", ":"):
            self.at += 1
            parts.append(self._set_expression())
        tokens = self.tokens[start : self.at]
        clock = len(tokens) == 3 and len(tokens[0].text) < 3 and len(tokens[2].text) == 2 and tokens[2].text < "60"
        return ("time" if clock and tokens[2].kind == tokens[0].kind == "num" else "ratio", *parts)

    def _set_expression(self) -> Node:
        node = self.sum()
        while self.peek().kind == "cmd" and self.peek().text in _SETS:
            kind = _SETS[self.peek().text]
            self.at += 1
            node = (kind, node, self.sum())
        return node

    def factor_group(self) -> Node:
        """Round or square brackets, braces, and the set \\{..\\}."""
        opening = self.tokens[self.at].text
        self.at += 1
        head, self.head = self.head, opening == "\\{"
        braces, self.braces = self.braces, 0
        node = self._set() if opening == "\\{" else self._bracket(opening)
        self.head, self.braces = head, braces
        return node

    def _bracket(self, opening: str) -> Node:
        closers = ("}",) if opening == "{" else (")", "]")
        items, _ = self.items(*closers)
        closing = self.take("mark", *closers).text
        if not items:
            raise Unreadable("empty brackets")
        if len(items) == 1:
            if opening + closing not in ("()", "[]", "{}"):
                raise Unreadable("brackets that do not match")
            return items[0]
        return ("set", *items) if opening == "{" else ("group", opening, closing, *items)

    def _set(self) -> Node:
        if self.is_next("mark", "\\}"):
            self.at += 1
            return ("empty",)
        items, _ = self.items("\\}", "|", ":", "mid") if not self._is_system() else self.items("\\}")
        if self._is_bar():
            self.at += 1
            self.head = False
            conditions, joins = self.items("\\}")
            self.take("mark", "\\}")
            if "or" in joins[1:]:
                if set(joins[1:]) != {"or"}:
                    raise Unreadable("conditions joined by more than one word")
                conditions = (("either", *conditions),)
            return ("builder", items[0] if len(items) == 1 else ("group", "(", ")", *items), *conditions)
        if self.peek().kind == "end" and len(items) == 1 and items[0][0] in ("matrix", "cases"):
            return ("cases", items[0][1])  # \left\{ \begin{array} .. \end{array} \right.
        self.take("mark", "\\}")
        return ("set", *items)

    def _is_system(self) -> bool:
        return self.peek().text.startswith("begin ")

    def _is_bar(self) -> bool:
        return self.is_next("mark", "|", ":") or self.is_next("cmd", "mid", "colon")

    def environment(self, name: str) -> Node:
        if name == "array" and self.is_next("mark", "{"):
            while not self.is_next("mark", "}"):
                self.at += 1
            self.at += 1
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        head, self.head = self.head, False
        while True:
            items, _ = self.items()
            if items:
                row.append(items[0] if len(items) == 1 else ("list", *items))
            token = self.peek()
            self.at += 1
            if token.text == "&":
                continue
            if row:
                rows.append(tuple(_condition(cell) for cell in row))
            row = []
            if token.text.startswith("end "):
                break
            if token.text != "\\":
                raise Unreadable("an environment that never ends")
        self.head = head
        kind = "det" if name in ("vmatrix", "Vmatrix") else "matrix" if name in _MATRICES else "cases"
        if kind == "cases" and name not in _CASES or not rows:
            raise Unreadable(f"{name} is not known")
        return _expanded(rows) if kind == "det" else (kind, tuple(rows))


def _condition(cell: Node) -> Node:
    """x > 0 of "if x > 0"."""
    if cell[0] != "phrase" or cell[1] not in ("if", "when", "for", "where", "若", "当") or len(cell) < 3:
        return cell
    return cell[2] if len(cell) == 3 and not isinstance(cell[2], str) else ("phrase", *cell[2:])


def _expanded(rows: Sequence[Sequence[Node]]) -> Node:
    """A determinant as a sum of products, along its first row."""
    if any(len(row) != len(rows) for row in rows) or len(rows) > 4:
        raise Unreadable("a determinant that is not square, or larger than 4")
    if len(rows) == 1:
        return rows[0][0]
    terms = []
    for column, entry in enumerate(rows[0]):
        minor = _expanded([[*row[:column], *row[column + 1 :]] for row in rows[1:]])
        terms.append(("neg", ("mul", entry, minor)) if column % 2 else ("mul", entry, minor))
    return ("add", *terms)


def _stronger(old: str, new: str) -> str:
    """ ", or" is "or"."""
    return new if new in ("and", "or") else old
