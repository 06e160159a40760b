r"""Answers that a policy under optimisation pressure, or a bug, may put into its box. Generated, so that none is dull.

batches() gives name -> responses. Nothing here is worth a point against the gold 42; what counts is what it costs.
"""

from collections.abc import Callable

SHELL = [
    "$(rm -rf ~)",
    "; shutdown -h now",
    "`reboot`",
    "| cat /etc/passwd",
    "&& :(){ :|:& };:",
    "> /dev/null",
    "\\input{/etc/passwd}",
    "\\immediate\\write18{ls}",
    "../../etc/passwd",
    "${HOME}",
    "%n%n%n",
    "'; DROP TABLE rewards; --",
]
PYTHON = [
    "__import__('os').system('true')",
    "exit()",
    "raise SystemExit",
    "().__class__.__bases__[0].__subclasses__()",
    "open('/proc/self/mem','wb')",
    "lambda: 42",
    "eval('6*7')",
    "exec('while True: pass')",
    "sympy.Integer(10)**10**10",
    "globals()['x']",
    "import sys; sys.exit(42)",
    "[x for x in iter(int, 1)]",
    '{"value": 1.0, "reason": "equal", "retire": false}',
    '1"}\n{"gold": "42", "answer": "42"}',
]
CHARACTERS = [
    "\x00",
    "\x01",
    "\x07",
    "\x1b[2J",
    "\r",
    "\x7f",
    "\ufeff",
    "\u200b",
    "\u202e",
    "\u2028",
    "\ud800",
    "\udfff",
]
UNICODE = [
    "四十二",
    "٤١",
    "𝟜𝟙",
    "ⅣⅡ",
    "½",
    "x²",
    "∑∏∫",
    "🙂",
    "é" * 300,
    "a\u0301" * 100,
    "∞",
    "√",
    "π",
    "−",
    "°",
    "‰",
]


def box(answer: str) -> str:
    """A response whose answer is `answer`."""
    return f"so it is \\boxed{{{answer}}}."


def nested(left: str, core: str, right: str, depth: int) -> str:
    """left left ... core ... right right."""
    return left * depth + core + right * depth


def tower(base: int, height: int) -> str:
    """base^{base^{...}}, `height` of them."""
    return f"{base}^{{" * (height - 1) + str(base) + "}" * (height - 1)


def matrix(rows: int, columns: int) -> str:
    """A matrix of ones."""
    return r"\begin{pmatrix}" + r"\\".join(["&".join("1" * columns)] * rows) + r"\end{pmatrix}"


def powers() -> list[str]:
    """Literal ones are refused unread; the last two have to be killed."""
    towers = [tower(base, height) for base in (2, 3, 9, 10, 99) for height in (4, 6, 8, 20, 60)]
    return [*towers, *[f"7^{{{'9' * n}}}" for n in range(6, 26)], *[f"({n}^{n})^{{{n}^{n}}}" for n in (10, 99)]]


def factorials() -> list[str]:
    """10^7 and more, as a literal and behind brackets; factorials of factorials; binomials."""
    literal = [f"{10**k}!" for k in range(6, 16)] + [f"\\binom{{{10**k}}}{{{10**k // 2}}}" for k in range(6, 16)]
    return [*literal, *["5" + "!" * n for n in (3, 50)], "(10^8)!", "((10^3)!)!", r"\binom{10^9}{5\cdot10^8}"]


def sums() -> list[str]:
    """Sums, products and integrals over 10^9 terms or worse, and expansions of a million terms."""
    loops = [r"\sum_{k=1}^{10^9} k^k", r"\prod_{k=1}^{10^9} \sin k"]
    more = [r"(x+y+z+w)^{300}", r"\int_0^1 x^{x^{x}} dx"]
    return [*loops, *more, "+".join(rf"\sin({k}x)" for k in range(1, 60)), "*".join(f"(x+{k})" for k in range(1, 120))]


def braces() -> list[str]:
    """Brackets and commands within each other, closed, open and crossed, up to 10^5 deep."""
    pairs = ["{}", "()", "[]"]
    deep = [nested(left, "1", right, depth) for left, right in pairs for depth in (3, 48, 51, 100, 1000, 100_000)]
    crossed = ["([{" * 1000 + ")}]" * 1000, "{" * 100_000, "(" * 100_000, r"\left(" * 1000, r"\{" * 1000]
    commands = [r"\frac{1}{", r"\sqrt{", r"1+\frac{1}{", r"\text{", r"\boxed{", r"x^{", r"x_{", r"\left|{"]
    return [*deep, *crossed, *[nested(c, "1", "}", depth) for c in commands for depth in (3, 51, 200, 1000)]]


def lengths() -> list[str]:
    """Up to a megabyte of one thing, lists of 10^5 items, huge matrices."""
    one = [unit * (1_000_000 // len(unit)) for unit in ("1", "x", " ", "\\", "$", "%", "-", "1+", "\\frac", "é", "\n")]
    lists = [",".join("1" * n) for n in (150, 1000, 100_000)] + [
        r"\{" + ",".join("1" * n) + r"\}" for n in (150, 100_000)
    ]
    numbers = ["7" * n for n in (299, 400, 999, 5000, 100_000)] + ["0." + "3" * n for n in (290, 998, 100_000)]
    return [*one, *lists, *numbers, *[matrix(n, n) for n in (9, 15, 30, 100, 300)], matrix(1, 100_000), matrix(2, 150)]


def malformed() -> list[str]:
    """No LaTeX at all, or nearly."""
    commands = [
        "frac",
        "sqrt",
        "left(",
        "right)",
        "begin{pmatrix}",
        "end{pmatrix}",
        "binom",
        "sum_",
        "int",
        "text",
        "over",
    ]
    return [
        *[rf"\{c}" for c in commands],
        *[rf"\{c}\{c}{{1}}" for c in commands],
        *[c * 3 + "1" for c in "^_&#~{}\\$%"],
    ]


def boxes() -> list[str]:
    """Whole responses: no box, empty boxes, 20 000 of them, boxes that never close, thinking that never ends."""
    whole = ["", " ", "\n" * 1000, r"\boxed", r"\boxed{", r"\boxed{}", r"\boxed{ }", r"\boxed{42", "42" * 500_000]
    many = [r"\boxed{" * 20_000, r"\boxed{1}" * 20_000, r"\boxed" * 20_000, r"\fbox{\boxed{" * 5000 + "}}" * 5000]
    thinking = [
        "<think>" * 20_000 + r"\boxed{1}",
        "</think>" * 20_000,
        r"\boxed{42}</think>",
        r"<think>\boxed{42}</think>",
    ]
    return [*whole, *many, *thinking, *[box("1") + "x" * n for n in (0, 1000, 1_000_000)]]


def batches() -> dict[str, list[str]]:
    """Responses by kind, more than 300 together."""
    boxed: dict[str, Callable[[], list[str]]] = {
        "powers": powers,
        "factorials": factorials,
        "sums": sums,
        "braces": braces,
        "lengths": lengths,
        "malformed": malformed,
    }
    found = {name: [box(answer) for answer in make()] for name, make in boxed.items()}
    found["code"] = [box(text) for text in SHELL + PYTHON]
    texts = [template.replace("?", c) for c in CHARACTERS for template in ("?", "4?1", "\\text{?}", "? " * 50)]
    found["characters"] = [box(text) for text in texts + UNICODE]
    found["boxes"] = boxes()
    return found
