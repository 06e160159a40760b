r"""One spelling for each thing that can be spelt in several ways; the result is LaTeX that tokens.py cuts.

    canonical("**Answer:** √3") == r"\surd 3"       canonical(r"10\,000") == "10000"
    canonical("x ≤ ２") == r"x \le  2"               canonical(r"\dfrac{1}{2}.") == r"\frac{1}{2}"

Tables, and no decision about meaning: words, units and numbers are read later.
"""

import re
from collections.abc import Callable

_SPELLINGS = {
    **{"−": "-", "–": "-", "—": "-", "﹣": "-", "×": r"\times ", "✕": r"\times ", "·": r"\cdot ", "⋅": r"\cdot "},
    **{"∙": r"\cdot ", "÷": "/", "⁄": "/", "∕": "/", "√": r"\surd ", "∛": r"\cuberoot ", "±": r"\pm ", "∓": r"\mp "},
    **{"≤": r"\le ", "⩽": r"\le ", "≦": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≧": r"\ge ", "≠": r"\ne "},
    **{"≡": r"\equiv ", "≈": r"\approx ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus "},
    **{"∈": r"\in ", "∉": r"\notin ", "∅": r"\emptyset ", "ø": r"\emptyset ", "Ø": r"\emptyset ", "∣": r"\mid "},
    **{"∠": r"\angle ", "△": r"\triangle ", "∆": r"\Delta ", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int "},
    **{"ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}"},
    **{
        "°": r"^\circ ",
        "℃": r"^\circ C",
        "℉": r"^\circ F",
        "′": "'",
        "’": "'",
        "‘": "'",
        "…": r"\dots ",
        "⋯": r"\dots ",
    },
    **{"⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle "},
    **{"½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"},
    **{"⅕": r"\frac{1}{5}", "⅙": r"\frac{1}{6}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}"},
    **{"、": ", ", "。": ".", "“": "", "”": "", '"': "", "【": "[", "】": "]", "《": "", "》": "", "＄": r"\$"},
    **{"π": r"\pi ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon "},
    **{"θ": r"\theta ", "λ": r"\lambda ", "μ": r"\mu ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi "},
    **{"ω": r"\omega ", "ϕ": r"\phi ", "Γ": r"\Gamma ", "Δ": r"\Delta ", "Σ": r"\Sigma ", "Ω": r"\Omega "},
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
    **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\u3000\t\n\r", " "),
}
_FULL_WIDTH = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) not in _SPELLINGS}
_CHARACTERS = str.maketrans({**_FULL_WIDTH, **_SPELLINGS})
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n", strict=True))

_SYNONYMS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), "frac"),
    **dict.fromkeys(("dbinom", "tbinom"), "binom"),
    **dict.fromkeys(("leq", "leqslant", "leqq"), "le"),
    **dict.fromkeys(("geq", "geqslant", "geqq"), "ge"),
    **{"neq": "ne", "lt": "lt", "gt": "gt", "times": "cdot", "ast": "cdot", "div": "slash", "over": "slash"},
    **{"lbrace": "{", "rbrace": "}", "lvert": "vert", "rvert": "vert", "varnothing": "emptyset", "infin": "infty"},
    **{"ldots": "dots", "cdots": "dots", "land": "and", "wedge": "and", "lor": "or", "vee": "or", "Or": "or"},
    **{"degree": "degree", "lparen": "langle", "backslash": "setminus", "smallsetminus": "setminus"},
    **{"varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta", "lg": "lg", "arcsin": "asin", "arccos": "acos"},
    **{"arctan": "atan", "tg": "tan", "ctg": "cot", "arctg": "atan", "bmod": "mod", "textdollar": "$", "euro": "€"},
    **{
        "simeq": "approx",
        "doteq": "approx",
        "colon": "colon",
        **dict.fromkeys(("rightarrow", "Rightarrow", "longrightarrow", "implies"), "to"),
        "lnot": "neg",
        "dotsc": "dots",
        "dotsb": "dots",
    },
}
_DROPPED = (
    "left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg|displaystyle|textstyle|limits|nolimits|"
    "boldsymbol|small|large|tiny|scriptsize|footnotesize|bm|rm|bf|it|normalfont|enspace|thinspace|hfill|nonumber|therefore"
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_EDITS: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile("[" + "".join(_RAISED) + "]+"), lambda m: "^{" + "".join(_RAISED[c] for c in m.group()) + "}"),
    (re.compile("[" + "".join(_LOWERED) + "]+"), lambda m: "_{" + "".join(_LOWERED[c] for c in m.group()) + "}"),
    (re.compile(r"\\\\\s*\[\s*[0-9.]+\s*(?:pt|em|ex|mm|cm)\s*\]"), r"\\\\ "),  # \\[4pt]
    (re.compile(r"\\(?:left|right)\s*\.(?!\d)"), ""),
    (re.compile(r"(?<!\\)\\[()\[\]]"), " "),  # \( \) \[ \]
    # 10\,000  11,\! 111  1{,}000: separators of thousands
    (re.compile(r"(?<=\d)(?:\\,|,\\!|\s?\{\s*,\s*\}|\\!|~|\\[ ;:])\s*(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))"), r"\\degree "),
    (re.compile(r"\\degree\s*(?:\\(?:mathrm|text|rm)\s*\{\s*C\s*\}|C(?![A-Za-z]))"), r"\\text{ celsius}"),
    (re.compile(r"\\degree\s*(?:\\(?:mathrm|text|rm)\s*\{\s*F\s*\}|F(?![A-Za-z]))"), r"\\text{ fahrenheit}"),
    (re.compile(r"(?<=\d)\{,\}(?=\d)"), "."),  # and otherwise a decimal comma
    (re.compile(r"\\q?quad"), " "),
    (re.compile(rf"\\(?:{_DROPPED})(?![A-Za-z])"), " "),
    (re.compile(r"(?<!\\)\\[,;:!> ]|(?<!\\)~"), " "),
    (re.compile(r"\*\*|(?<!\\)`|__"), ""),
    (re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)"), r"\\times "),  # 1.5 x 10^3
    (
        re.compile(r"(?<![A-Za-z])([fgh])\s*\^\s*\{?\s*-\s*1\s*\}?\s*(?=\()"),
        r"\1" + "'" * 4,
    ),  # a function of its own name
    (re.compile(r"\.{2,}"), r"\\dots "),
    (re.compile(r"(?<!\\)\{\s*([:=])\s*\}"), r"\1"),
    (re.compile(r"(?<=[\d\s}])([ap])\.\s?m\b\.?", re.IGNORECASE), r" \1m"),
    (re.compile(r"(\d+)\s*\\degree\s*(\d+)\s*'(?!')"), r"(\1+\\frac{\2}{60})\\degree "),  # 30 degrees 15 minutes
    (
        re.compile(
            r"(?<=\d)(?:\s*\^?\s*\{?\\(?:text|mathrm|mbox)\s*\{\s*O\s*\}\}?|\s*\^\s*\{\s*O\s*\}|O(?![A-Za-z]))".replace(
                "O", "(?:st|nd|rd|th)"
            )
        ),
        "",
    ),
    (re.compile(r"(?<=[\d}])\s*m\s*/\s*s(?![A-Za-z])"), r"\\text{ m/s}"),
    (re.compile(r"(?<=\d)\s*h\s*(?=\d)"), r"\\text{ h }"),
    (re.compile(r"(?<=\d)\s*(min|sec)\s*$"), r"\\text{ \1}"),
    (re.compile(r"^\s*共(?=\s*\d)"), ""),
    (re.compile(r"<="), r"\\le "),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"!=(?!=)"), r"\\ne "),
]
_REALS = r"\\mathbb\s*\{?\s*R\s*\}?\s*"
_LATE_EDITS = [  # once each command has one name
    (re.compile(r"\\in\s*(?:\\math(?:bf|rm|bb)\s*)?\{?\s*([RZNQC])\s*\}?(?![A-Za-z])"), r"\\in \\mathbb{\1}"),
    (re.compile(_REALS + r"(?:[\^_]\s*\{?\s*\+\s*\}?|_\s*\{\s*>\s*0\s*\})"), r"(0,\\infty)"),
    (re.compile(_REALS + r"(?:[\^_]\s*\{?\s*-\s*\}?|_\s*\{\s*<\s*0\s*\})"), r"(-\\infty,0)"),
    (re.compile(_REALS + r"_\s*\{\s*\\ge\s*0\s*\}"), r"[0,\\infty)"),
    (
        re.compile(r"\\mathbb\s*\{?\s*[ZN]\s*\}?\s*(?:[\^_]\s*\{?\s*\+\s*\}?|_\s*\{\s*(?:>\s*0|\\ge\s*1)\s*\})"),
        r"\\mathbb{N+}",
    ),
    (re.compile(r"\\mathbb\s*\{?\s*N\s*\}?\s*[\^_]\s*\{?\s*\*\s*\}?"), r"\\mathbb{N+}"),
    (re.compile(r"\\mathbb\s*\{?\s*Z\s*\}?\s*_\s*\{\s*\\ge\s*0\s*\}"), r"\\mathbb{N}"),
    (re.compile(r"\(\s*([A-Za-z](?:_\{?\d\}?)?\s*\\in(?![A-Za-z])[^()]*)\)"), r", \1"),  # (k in Z)
]
_LAST_EDITS = [  # without a label and dollars around
    (re.compile(r"^\s*\\mathbf\s*\{?\s*([RZQ])\s*\}?\s*$"), r"\\mathbb{\1}"),
    # ]1,2[ is (1,2)
    (re.compile(r"(^|\\in|\\cup|=)\s*\]\s*([^\[\],;]+[,;][^\[\],;]+)(?=[\[\]])"), r"\1 (\2"),
    (re.compile(r"([(\[][^()\[\]]+[,;][^()\[\]]+)\[(?=\s*(?:$|\\cup|,))"), r"\1)"),
]
_BRACED = re.compile(r"\{(?:[^{}\\]|\\.|\{(?:[^{}\\]|\\.|\{[^{}]*\})*\})*\}")
_LABEL = re.compile(
    r"\s*(?:\\text[a-z]*\s*\{)?\s*(?:(?:the\s+)?(?:correct\s+|final\s+)?(?:answer|ans)\s*(?:is(?![a-z])\s*[:=]?|[:=])"
    r"|答案\s*[是为]?\s*[:=]?|(?:option|choice|选项|故选|选)\s*[:=]?\s*(?=\(?[A-J](?![A-Za-z])))\s*",
    re.IGNORECASE,
)
_CURRENCY = re.compile(r"(?<!\\)\$(?=\s*\d)")


def canonical(text: str) -> str:
    """The same answer in one spelling: ASCII, one command for each thing, no layout, no label, no final stop."""
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _EDITS:
        text = pattern.sub(replacement, text)
    text = _COMMAND.sub(lambda m: "\\" + _SYNONYMS.get(m[1], m[1]), text)
    for pattern, replacement in _LATE_EDITS:
        text = pattern.sub(replacement, text)
    text = _without_dollars(text)
    label = _LABEL.match(text)
    if label:
        text = text[label.end() :]
        text = text.replace("}", "", 1) if "{" in label.group() else text
    text = text.strip().lstrip(":=").rstrip(".:").strip()
    for pattern, replacement in _LAST_EDITS:
        text = pattern.sub(replacement, text)
    return text[1:-1].strip() if _BRACED.fullmatch(text) else text


def _without_dollars(text: str) -> str:
    """Dollars around mathematics go; \\$ and one that is alone before a number are money."""
    bare = len(re.findall(r"(?<!\\)\$", text))
    if bare % 2:
        text = _CURRENCY.sub(lambda m: r"\$", text, count=1)
    return re.sub(r"(?<!\\)\$", " ", text)
