r"""Formulas: tokens to a tree, by recursive descent. What is not understood raises Unreadable, and nothing is skipped.

    sum      -> [+-] product ([+-] product)*            product -> run ([*/] run)*
    run      -> factor factor ...  (2xy, 3\frac12)       factor  -> atom [!, ^{}, _{}, degree]*

Juxtaposition binds closer than a slash: 1/2x is 1/(2x). A node is a tuple whose first entry names it:

    ("num", Fraction, places)  ("sym", name)  ("const", pi|e|inf)  ("add"|"mul", a, b, ..)  ("div"|"pow", a, b)
    ("neg"|"fact"|"pct"|"deg", a)  ("call", function, args..)  ("app", name, args..)  ("pm", a or None, b, 1 or -1)
    ("binom"|"perm", n, k)  ("sum"|"prod", variable, low, high, body)  ("base", digits, base)

structure.py adds brackets, relations and words.
"""

from fractions import Fraction

from openrlhf_prefix.reward.grammar.atoms import Atoms
from openrlhf_prefix.reward.grammar.cursor import Node, join
from openrlhf_prefix.reward.grammar.tokens import Unreadable, base_number

_MAX_DEPTH = 60


class Formula(Atoms):
    """Reads sums, products, runs and factors."""

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unreadable("too deep")
        terms = [self._signed()]
        while self.is_next("mark", "+", "-") or self.is_next("cmd", "pm", "mp"):
            sign = self.tokens[self.at]
            self.at += 1
            term = self.product()
            if sign.kind == "cmd":
                terms = [("pm", join("add", terms), term, 1 if sign.text == "pm" else -1)]
            else:
                terms.append(("neg", term) if sign.text == "-" else term)
        self.depth -= 1
        return join("add", terms)

    def _signed(self) -> Node:
        sign = self.peek()
        if sign.kind == "mark" and sign.text in "+-" or sign.kind == "cmd" and sign.text in ("pm", "mp"):
            self.at += 1
            body = self._signed() if self.peek().text in ("+", "-") else self.product()
            if sign.kind == "cmd":
                return ("pm", None, body, 1 if sign.text == "pm" else -1)
            return ("neg", body) if sign.text == "-" else body
        return self.product()

    def product(self) -> Node:
        left = self._run()
        while self.is_next("mark", "*", "/") or self.is_next("cmd", "mod"):
            sign = self.tokens[self.at].text
            self.at += 1
            right = self._signed() if self.is_next("mark", "-", "+") else self._run()
            kind = {"*": "mul", "/": "div", "mod": "mod"}[sign]
            if kind == "div" and right[0] == "pct":  # 3/4%
                left = ("pct", ("div", left, right[1]))
            else:
                left = join("mul", [left, right]) if kind == "mul" else (kind, left, right)
        return left

    def _run(self) -> Node:
        start = self.at
        factors = [self.factor()]
        while self.starts_factor():
            before = self.peek()
            if before.kind == "num" and factors[-1][0] == "num":
                factors[-1] = self._mixed(factors[-1], len(factors), start)
                continue
            if before.kind == "num" and self.tokens[self.at - 1].upright and factors[0][0] == "num":
                raise Unreadable("a word between two numbers")  # 5 R 2
            factors.append(self.factor())
        node = _run_of(factors)
        while self.is_next("mark", "%"):
            self.at += 1
            node = ("pct", node)
        return node

    def _mixed(self, whole: Node, count: int, start: int) -> Node:
        """3 1/2: an integer, a blank and a proper fraction."""
        above = self.tokens[self.at]
        self.at += 1
        if count == 1 and above.spaced and self.is_next("mark", "/") and self.peek(1).kind == "num":
            below = self.tokens[self.at + 1]
            self.at += 2
            over, under = above.value or Fraction(0), below.value or Fraction(0)
            if 0 < over < under and whole[1].denominator == over.denominator == under.denominator == 1:
                return ("num", whole[1] + over / under, None)
        raise Unreadable("two numbers beside each other")

    def starts_factor(self) -> bool:
        token = self.peek()
        if token.kind in ("num", "let"):
            return True
        if token.kind == "word":
            return self.braces > 0
        if token.kind == "mark":
            return token.text in ("(", "[", "{") or (token.text == "|" and self.bars == 0 and self._even_bars())
        return token.kind == "cmd" and self.is_atom(token.text)

    def _even_bars(self) -> bool:
        return sum(token.kind == "mark" and token.text == "|" for token in self.tokens[self.at :]) % 2 == 0

    def factor(self) -> Node:
        node = self.atom()
        while True:
            if self.is_next("mark", "!"):
                self.at += 1
                if self.is_next("mark", "!"):
                    self.at += 1
                    node = ("call", "fact2", node)
                else:
                    node = ("fact", node)
            elif self.is_next("cmd", "degree"):
                self.at += 1
                node = ("deg", node)
            elif self.is_next("mark", "^"):
                node = self._power(node)
            elif self.is_next("mark", "_") and node[0] in ("num", "group", "sym"):
                node = self._based(node)
            else:
                return node

    def _based(self, node: Node) -> Node:
        """52_8: a numeral and the base in which it is written."""
        if node[0] != "num":
            raise Unreadable("a subscript to no name")
        digits = self.tokens[self.at - 1].text
        self.take("mark", "_")
        braced = self.is_next("mark", "{")
        self.at += braced
        base = base_number(self.peek())
        self.at += 1
        if braced:
            self.take("mark", "}")
        if base is None:
            raise Unreadable("a base that is no number")
        return ("base", digits, base)

    def _power(self, node: Node) -> Node:
        self.take("mark", "^")
        return ("pow", node, self.argument())


def _run_of(factors: list[Node]) -> Node:
    r"""A product, or 3\frac12 and 3\frac12 degrees."""
    if len(factors) == 2:
        whole, part = factors
        if _is_mixed(whole, part):
            return ("add", whole, part)
        if part[0] == "deg" and _is_mixed(whole, part[1]):
            return ("deg", ("add", whole, part[1]))
    return join("mul", factors)


def _is_mixed(whole: Node, part: Node) -> bool:
    r"""3\frac12 is 3 + 1/2; 3\frac72 and x\frac12 are products."""
    if whole[0] != "num" or whole[2] is not None or part[0] != "div" or part[1][0] != "num" or part[2][0] != "num":
        return False
    integers = all(node[1].denominator == 1 for node in (whole, part[1], part[2]))
    return integers and whole[1] > 0 and 0 < part[1][1] < part[2][1]
