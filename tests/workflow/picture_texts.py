"""Workflows to be drawn: random programs, and what a rude model might write."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["HOSTILE", "call_of", "hostile_texts", "programs"]

HEAD = "class Workflow:\n    async def __call__(self, problem, entry_point=None):\n"
HELPER = (
    "    async def _helper(self, text):\n"
    "        if not text:\n"
    "            return text\n"
    "        r = await self.custom(input=text, instruction='help')\n"
    "        return r['response']\n"
)
HOSTILE = (
    '"><script>alert(1)</script>',
    "]]> <!-- --> <![CDATA[ &amp; &#0;",
    "end",
    "1. one\n- two\n```mermaid\nend\n```",
    "%%{init: {'theme':'dark'}}%%",
    "a --> b; click a call x()",
    "\x00\x07\x1b[31m\u202egnp.exe\u2028\ufffe",
    "\ud800",
    "#quot; #35; &quot; `x` *y* __z__ $$q$$ {a} [b] (c) |d| \\n",
    "计算答案" * 60,
    "e\u0301\u0300" * 100,
    "x" * 5000,
    "",
)


def call_of(*lines: str, helper: bool = False) -> str:
    """A workflow whose `__call__` has these lines."""
    return (
        "import asyncio\n" + HEAD + "".join(f"        {line}\n" for line in lines)
        + (HELPER if helper else "")
    )  # fmt: skip


def hostile_texts() -> st.SearchStrategy[str]:
    return st.sampled_from(HOSTILE) | st.text(max_size=60)


_NAMES = st.sampled_from(("a", "b", "c", "answers"))


@st.composite
def _simple(draw: st.DrawFn) -> list[str]:
    name, other = draw(_NAMES), draw(_NAMES)
    text = repr(draw(hostile_texts()))
    forms = (
        f"{name} = await self.custom(input=problem, instruction={text})",
        f"{name} = (await self.answer_generate(input={other}))['answer']",
        f"{name} = await self.sc_ensemble(solutions=[{name}, {other}], problem=problem)",
        f"{name} = await asyncio.gather(self.custom(input={other}), self.review(problem, {name}))",
        f"{name} = await asyncio.gather(*[self.custom(input={other}) for _ in range(3)])",
        f"{name} = [await self._helper({other}) for _ in range(2)]",
        f"{name} = await self._helper({other})",
        f"{name} = max(set({other}), key={other}.count)",
        f"{name} = {other}['response'] if {name} else await self.custom({other})",
        f"{name}, {other} = {other}, {name}",
        f"{name} = await self.no_such({other}, {text})",
        f"self.kept = {name}; {other} = self.kept",
        f"print({text})",
    )
    return [draw(st.sampled_from(forms))]


def _indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


@st.composite
def _block(draw: st.DrawFn, depth: int, in_loop: bool) -> list[str]:
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        lines += draw(_statement(depth, in_loop))
    return lines


@st.composite
def _statement(draw: st.DrawFn, depth: int, in_loop: bool) -> list[str]:
    kinds = ["simple", "simple", "return", *(["leave"] if in_loop else [])]
    if depth:
        kinds += ["if", "else", "for", "while", "try", "match", "with"]
    kind = draw(st.sampled_from(kinds))
    name = draw(_NAMES)

    def body(loop: bool = in_loop) -> list[str]:
        return _indented(draw(_block(depth - 1, loop)))

    match kind:
        case "simple":
            return draw(_simple())
        case "return":
            return [f"return {name}, 0"]
        case "leave":
            return [draw(st.sampled_from(("break", "continue")))]
        case "if":
            return [f"if {name}['ok']:", *body()]
        case "else":
            return [f"if not {name}:", *body(), f"elif {name} == 2:", *body(), "else:", *body()]
        case "for":
            return [f"for {name} in range(3):", *body(True)]
        case "while":
            return [draw(st.sampled_from(("while True:", f"while {name}:"))), *body(True)]
        case "try":
            return ["try:", *body(), "except (ValueError, KeyError):", *body(), "except:", *body()]
        case "match":
            first, second = _indented(body()), _indented(body())
            return [f"match {name}:", "    case [1, *rest]:", *first, "    case _:", *second]
        case _:
            return [f"async with {name}:", *body()]


@st.composite
def programs(draw: st.DrawFn) -> str:
    """A workflow that parses, with every construct that the language has and some it has not."""
    lines = draw(_block(3, False))
    return call_of(*lines, "return a, 0", helper=True)
