r"""The smallest formulas: numbers, letters, \\frac, \\sqrt, \\sin, \\sum and what else begins with a command.

a_n, f(x)    unknown functions of what stands in the subscript or the bracket
C_5^2        a binomial coefficient          |x|, \\lfloor x \\rfloor    calls like any other
"""

from collections.abc import Callable
from fractions import Fraction

from openrlhf_prefix.reward.grammar.cursor import Cursor, Node, join
from openrlhf_prefix.reward.grammar.tokens import Token, Unreadable
from openrlhf_prefix.reward.grammar.trees import accented

_CALLED = """
sin cos tan cot sec csc sinh cosh tanh coth asin acos atan ln lg exp gcd lcm max min floor ceil abs arg Re Im sgn det
cis
"""
_LETTERS = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega
Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar partial nabla
"""
_OVER = """
overline bar vec hat tilde overrightarrow overleftrightarrow widehat widetilde wideparen overarc dot ddot overset
mathcal angle measuredangle triangle square odot parallel
"""
CALLS, _GREEK, _ACCENTS = (frozenset(names.split()) for names in (_CALLED, _LETTERS, _OVER))
_DIFFERENTIAL = ("sym", "d")
_CONSTANTS = {"pi": ("const", "pi"), "infty": ("const", "inf"), "imath": ("sym", "i")}
_FUNCTION_LETTERS = frozenset("fghFGH")
ONE = ("num", Fraction(1), None)


class Atoms(Cursor):
    """Reads one atom, and the arguments of commands. Sums, factors and brackets are read by its subclasses."""

    def sum(self) -> Node:
        raise NotImplementedError

    def product(self) -> Node:
        raise NotImplementedError

    def factor(self) -> Node:
        raise NotImplementedError

    def factor_group(self) -> Node:
        raise NotImplementedError

    def environment(self, name: str) -> Node:
        raise NotImplementedError

    def starts_factor(self) -> bool:
        raise NotImplementedError

    def is_atom(self, name: str) -> bool:
        return (
            name in CALLS
            or name in _GREEK
            or name in _CONSTANTS
            or name in _ACCENTS
            or name in self.ATOMS
            or name.startswith(("mathbb", "begin "))
        )

    def argument(self) -> Node:
        """{...}, or the one token that TeX takes, except that a number is taken whole."""
        if self.is_next("mark", "{"):
            return self.braced()
        if self.is_next("mark", "-", "+"):  # 2^-1
            self.at += 1
            negative = self.tokens[self.at - 1].text == "-"
            return ("neg", self.atom()) if negative else self.atom()
        return self.atom()

    def braced(self) -> Node:
        self.take("mark", "{")
        self.braces += 1
        bars, self.bars = self.bars, 0
        node = self.sum()
        self.bars = bars
        self.braces -= 1
        self.take("mark", "}")
        return node

    def atom(self) -> Node:
        token = self.peek()
        if token.kind == "num":
            self.at += 1
            return self._cycled(("num", token.value, token.places))
        if token.kind == "let":
            return self._letter(token)
        if token.kind == "word" and self.braces:
            self.at += 1
            return ("sym", token.text)
        if token.kind == "mark" and token.text in ("(", "[", "{", "\\{"):
            return self.factor_group()
        if token.kind == "mark" and token.text == "|":
            return self._absolute()
        if token.kind == "cmd":
            return self._command(token)
        raise Unreadable(f"{token.text!r} begins no formula")

    def _cycled(self, node: Node) -> Node:
        """0.1\\cycle{23} = 0.1 + 23 / (99 * 10)"""
        if not self.is_next("cmd", "cycle"):
            return node
        self.at += 1
        self.take("mark", "{")
        cycle = self.take("num", self.peek().text).text
        self.take("mark", "}")
        places = node[2] or 0
        return ("num", node[1] + Fraction(int(cycle), (10 ** len(cycle) - 1) * 10**places), None)

    def _letter(self, token: Token) -> Node:
        self.at += 1
        name = token.text
        while self.is_next("mark", "'"):
            self.at += 1
            name += "'"
        if name in ("C", "A", "P") and (token.upright or name == "C") and self._is_choose():
            return self._choose(name)
        node = self._subscripted(("const", "e") if name == "e" else ("sym", name), name)
        if self.is_next("mark", "("):
            at = self.at
            argument = self.factor_group()
            if name[0] in _FUNCTION_LETTERS or argument[0] == "rel":  # f(x), P(X = 2)
                return ("app", node[1] if node[0] == "sym" else node, argument)
            self.at = at
        return node

    def _subscripted(self, node: Node, name: str) -> Node:
        if not self.is_next("mark", "_"):
            return node
        self.take("mark", "_")
        return ("app", name + "_", self.argument())

    def _is_choose(self) -> bool:
        """C_5^2 and C_{5}^{2}."""
        at = self.at
        try:
            self.take("mark", "_")
            self.argument()
            return self.is_next("mark", "^")
        except Unreadable:
            return False
        finally:
            self.at = at

    def _choose(self, name: str) -> Node:
        self.take("mark", "_")
        n = self.argument()
        self.take("mark", "^")
        return ("binom" if name == "C" else "perm", n, self.argument())

    def _absolute(self) -> Node:
        self.take("mark", "|")
        self.bars += 1
        node = self.sum()
        self.take("mark", "|")
        self.bars -= 1
        return ("call", "abs", node)

    def _command(self, token: Token) -> Node:
        name = token.text
        self.at += 1
        if name in self.ATOMS:
            return self.ATOMS[name](self)
        if name in CALLS:
            return self._call(name)
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in _GREEK:
            return self._subscripted(("sym", "\\" + name), "\\" + name)
        if name in _ACCENTS:
            return self._accented(name)
        if name.startswith("begin "):
            return self.environment(name.removeprefix("begin "))
        if name.startswith("mathbb"):
            return ("name", name.removeprefix("mathbb"))
        raise Unreadable(f"\\{name} is not known")

    def _accented(self, name: str) -> Node:
        """\\vec AB and \\vec{AB}."""
        if self.is_next("mark", "{"):
            inner = self.braced()
        else:
            letters = []
            while self.peek().kind == "let":
                letters.append(self.factor())
            inner = join("mul", letters or [self.atom()])
        return accented(name, inner)

    def _call(self, name: str) -> Node:
        power = None
        if self.is_next("mark", "^"):
            self.take("mark", "^")
            power = self.argument()
        arguments = self._call_arguments()
        if power == ("neg", ONE) and name in ("sin", "cos", "tan"):
            return ("call", "a" + name, *arguments)
        node = ("call", name, *arguments)
        return node if power is None else ("pow", node, power)

    def _call_arguments(self) -> list[Node]:
        """(x, y), or factors up to a sign or the next function: sin 2x cos x is sin(2x) cos(x)."""
        if self.is_next("mark", "(", "[", "\\{"):
            inner = self.factor_group()
            listed = {"group": inner[3:], "set": inner[1:]}.get(inner[0])
            return sorted(listed, key=repr) if listed else [self._postfixed(inner)]
        sign = self.is_next("mark", "-")
        self.at += sign
        factors = [self.factor()]
        while self.starts_factor() and self.peek().text not in CALLS and self.peek().text not in ("log", "(", "["):
            factors.append(self.factor())
        body = join("mul", factors)
        return [("neg", body) if sign else body]

    def _postfixed(self, inner: Node) -> Node:
        if self.is_next("cmd", "degree"):
            self.at += 1
            return ("deg", inner)
        return inner

    def _fraction(self) -> Node:
        above = self._digit_or_argument()
        below = self._digit_or_argument()
        if below[0] == "mul" and below[1] == _DIFFERENTIAL:
            if above == _DIFFERENTIAL:
                raise Unreadable("a derivative to be taken")
            if above[0] == "mul" and above[1] == _DIFFERENTIAL:
                return ("app", "derivative", above, below)  # dy/dx names a quantity
        return ("div", above, below)

    def _binomial(self) -> Node:
        n = self._digit_or_argument()
        return ("binom", n, self._digit_or_argument())

    def _digit_or_argument(self) -> Node:
        r"""\frac12 and \frac1{23}: of bare digits TeX takes one."""
        token = self.peek()
        if token.kind != "num" or len(token.text) == 1 or not token.text.isdigit():
            return self.argument()
        rest = Token("num", token.text[1:], Fraction(int(token.text[1:])))
        self.tokens = [*self.tokens[: self.at], Token("num", token.text[0]), rest, *self.tokens[self.at + 1 :]]
        self.at += 1
        return ("num", Fraction(int(token.text[0])), None)

    def _root(self) -> Node:
        index: Node = ("num", Fraction(2), None)
        if self.is_next("mark", "["):
            self.at += 1
            index = self.sum()
            self.take("mark", "]")
        return ("call", "root", self.argument(), index)

    def _cube_root(self) -> Node:
        return ("call", "root", self.argument(), ("num", Fraction(3), None))

    def _logarithm(self) -> Node:
        base = None
        if self.is_next("mark", "_"):
            self.at += 1
            base = self.argument()
        if base is None:
            return self._call("log")
        power = None
        if self.is_next("mark", "^"):
            self.at += 1
            power = self.argument()
        node = ("call", "log_", *self._call_arguments(), base)
        return node if power is None else ("pow", node, power)

    def _series(self, kind: str) -> Node:
        self.take("mark", "_")
        self.take("mark", "{")
        variable = self.take("let", self.peek().text).text
        self.take("mark", "=")
        low = self.sum()
        self.take("mark", "}")
        self.take("mark", "^")
        high = self.argument()
        return (kind, variable, low, high, self.product())

    def _step(self, name: str) -> Node:
        node = self.sum()
        self.take("cmd", "r" + name)
        return ("call", name, node)

    ATOMS: dict[str, Callable[["Atoms"], Node]] = {
        "frac": _fraction,
        "binom": _binomial,
        "sqrt": _root,
        "surd": _root,
        "cuberoot": _cube_root,
        "log": _logarithm,
        "emptyset": lambda self: ("empty",),
        "sum": lambda self: self._series("sum"),
        "prod": lambda self: self._series("prod"),
        "lfloor": lambda self: self._step("floor"),
        "lceil": lambda self: self._step("ceil"),
    }
