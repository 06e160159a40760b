r"""Demonstrations of reasoning-gym's problems: the steps of a solution, one a line, and the answer in a box.

    chain_sum        4 - 1 - 7 =                   4 - 1 = 3 / 3 - 7 = -4 / \boxed{-4}                  running sums
    countdown        309 of 6, 61, 94, 4           94 * 4 = 376 / 376 - 61 = 315 / ... / \boxed{94*4 - 61 - 6}
    gcd              gcd(780, 461)                 780 = 1 * 461 + 319 / ... / \boxed{1}                Euclid
    leg_counting     3 cats, 2 birds               3 cats: 3 * 4 = 12 / ... / 12 + 4 = 16 / \boxed{16}
    letter_counting  "h" in "hundred thousand"     hundred: 1, in all 1 / thousand: 1, in all 2 / \boxed{2}
    spell_backward   sun                           from the end: n, u, s / \boxed{nus}
    knights_knaves   who lies?                     case after case, up to the one in which all statements fit
    gsm_symbolic     a story                       the text that reasoning-gym gives itself

A solver reads an entry {"question", "answer", "metadata"}, and what it works out has to be the entry's answer; one
that takes a mistake goes on from it to a wrong one.
"""

import ast
import operator
from collections.abc import Callable
from fractions import Fraction
from functools import reduce
from itertools import product
from random import Random
from typing import Any

from openrlhf_prefix.data.tasks import Mistake, Slip, habit

Entry = dict[str, Any]
TRIES = 20
SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
COMPUTE: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def demonstration(task: str, entry: Entry) -> str | None:
    """The worked solution of an entry; None for a task without a solver.

    Raises:
        ValueError: the steps lead to another answer than the entry has.
    """
    if task not in SOLVERS:
        return None
    return _written(*SOLVERS[task](entry))


def mistaken(task: str, entry: Entry, rng: Random, systematic: bool) -> str:
    """The worked solution of an entry of a task in MISTAKEN, with one slip or with the `systematic` habit.

    Of the slips one is chosen that leads to a wrong end; if `TRIES` of them do not, the answer stays right.
    """
    solver = MISTAKEN[task]
    if systematic:
        return _written(*solver(entry, habit))
    right, _ = solver(entry)
    for _ in range(TRIES):
        steps, answer = solver(entry, Slip(rng.randrange(len(right)), rng.randrange(1, 10)))
        if _result(steps) != _result(right):
            break
    return _written(steps, answer)


def _result(steps: list[str]) -> str:
    return steps[-1].rpartition("=")[2]


def _written(steps: list[str], answer: str) -> str:
    return "\n".join([*steps, f"\\boxed{{{answer}}}"])


def _checked(found: object, entry: Entry) -> str:
    if str(found) != entry["answer"]:
        raise ValueError(f"the steps give {found}, and the answer is {entry['answer']}: {entry['question']}")
    return str(found)


def _running(total: Any, sign: str, number: Any, error: int = 0) -> tuple[Any, str]:
    """(new total, which is too high by `error`, and the line that says so)."""
    found = COMPUTE[sign](total, number) + error
    return found, f"{total} {sign} {number} = {found}"


def chain_sum(entry: Entry, mistake: Mistake | None = None) -> tuple[list[str], str]:
    first, *rest = entry["metadata"]["expression"].split()
    total, steps = int(first), []
    for step, (sign, number) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
        total, line = _running(total, sign, int(number), mistake(step, sign) if mistake else 0)
        steps.append(line)
    return steps, str(total) if mistake else _checked(total, entry)


def countdown(entry: Entry, mistake: Mistake | None = None) -> tuple[list[str], str]:
    """Any expression with these numbers will do: the one that the puzzle was made of; a mistake takes another sign."""
    steps: list[str] = []
    tree = ast.parse(entry["metadata"]["expression"], mode="eval").body

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            sign = SIGNS[type(node.op)]
            error = mistake(len(steps), sign) if mistake else 0
            if error or (sign == "/" and not right):  # nothing is divided by what an earlier mistake made zero
                others = [kind for kind, other in SIGNS.items() if other not in (sign, "/")]
                node.op = others[(error - 1) % len(others)]()
            found, line = _running(left, SIGNS[type(node.op)], right)
            steps.append(line)
            return Fraction(found)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        assert isinstance(node, ast.Constant) and isinstance(node.value, int)
        return Fraction(node.value)

    found = value(tree)
    if mistake:
        return steps, ast.unparse(tree)
    if found != entry["metadata"]["target"]:
        raise ValueError(f"{entry['metadata']['expression']} is not {entry['metadata']['target']}")
    return steps, entry["metadata"]["expression"]


def gcd(entry: Entry) -> tuple[list[str], str]:
    steps: list[str] = []

    def common(first: int, second: int) -> int:
        while second:
            steps.append(f"{first} = {first // second} * {second} + {first % second}")
            first, second = second, first % second
        return first

    return steps, _checked(reduce(common, entry["metadata"]["numbers"]), entry)


def leg_counting(entry: Entry) -> tuple[list[str], str]:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    total, steps = 0, []
    for place, (animal, count) in enumerate(entry["metadata"]["animals"].items()):
        legs = count * ANIMALS[animal]
        steps.append(f"{count} {animal}{'s' if count > 1 else ''}: {count} * {ANIMALS[animal]} = {legs}")
        total, line = _running(total, "+", legs)
        steps += [line] if place else []
    return steps, _checked(total, entry)


def letter_counting(entry: Entry) -> tuple[list[str], str]:
    letter, total, steps = entry["metadata"]["target_letter"], 0, []
    for word in entry["metadata"]["span"]:
        found = word.lower().count(letter)
        total += found
        steps.append(f"{word}: {found}, in all {total}")
    return steps, _checked(total, entry)


def spell_backward(entry: Entry) -> tuple[list[str], str]:
    letters = entry["metadata"]["word"][::-1]
    return [f"from the end: {', '.join(letters)}"], _checked(letters, entry)


def gsm_symbolic(entry: Entry) -> tuple[list[str], str]:
    worked, _, answer = entry["metadata"]["answer_cot"].rpartition("####")
    steps = [line.strip() for line in worked.splitlines() if line.strip()]
    return steps, _checked(answer.strip().replace(",", "").removesuffix(".0"), entry)


def knights_knaves(entry: Entry, mistake: Mistake | None = None) -> tuple[list[str], str]:
    """All cases in order, each up to the first person whom it does not fit, and the first case that fits all.

    In a case with a mistake what knights ("+") or knaves ("-") say is judged the other way round; if then no case is
    left but the last, that one is taken.
    """
    facts = entry["metadata"]
    names, terms = facts["names"], facts["knight_knave_terms"]
    steps: list[str] = []
    cases = list(product([True, False], repeat=len(names)))
    for number, case in enumerate(cases):
        roles = [terms["a_knight"] if honest else terms["a_knave"] for honest in case]
        *others, last = [f"{name} is {role}" for name, role in zip(names, roles, strict=True)]
        said = f"{', '.join(others)}, and {last}"
        if mistake and case == cases[-1]:
            return [*steps, f"So {said}."], said
        line = f"Suppose {said}."
        for name, role, honest, statement in zip(names, roles, case, facts["statements"], strict=True):
            wrong = mistake(number, "+" if honest else "-") if mistake else 0
            true = holds(statement, case) is not bool(wrong)
            line += f" What {name} says is {'true' if true else 'false'}"
            if true is not honest:
                line += f", but {name} is {role}: this fails."
                break
            line += f", and {name} is {role}."
        else:
            return [*steps, f"{line} All fits."], said if mistake else _checked(f"{said}.", entry).rstrip(".")
        steps.append(line)
    raise ValueError("no case fits all statements")


def holds(statement: Any, honest: tuple[bool, ...]) -> bool:
    """Whether a statement is true, given who is honest: ["and", a, b], ["lying", 1], ..."""
    kind, *parts = statement
    if kind == "telling-truth":
        return honest[parts[0]]
    if kind == "lying":
        return not honest[parts[0]]
    values = [holds(part, honest) for part in parts]
    if kind == "not":
        return not values[0]
    if kind in ("and", "or"):
        return all(values) if kind == "and" else any(values)
    if kind == "->":
        return not values[0] or values[1]
    if kind == "<=>":
        return values[0] == values[1]
    raise ValueError(f"a statement of unknown kind: {kind}")


MISTAKEN = {solver.__name__: solver for solver in (chain_sum, countdown, knights_knaves)}  # those that take a mistake
SOLVERS: dict[str, Callable[[Entry], tuple[list[str], str]]] = {
    solver.__name__: solver
    for solver in (
        chain_sum,
        countdown,
        gcd,
        leg_counting,
        letter_counting,
        spell_backward,
        gsm_symbolic,
        knights_knaves,
    )
}
