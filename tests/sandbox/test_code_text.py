"""Finding the program in a model's reply."""

from __future__ import annotations

import pytest

from aflow_grpo.sandbox.code_text import extract_code, parses

ADD = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    "reply",
    [
        f"```python\n{ADD}\n```",
        f"Here it is:\n```python\n{ADD}\n```\nIt adds two numbers.",
        f"```py\n{ADD}\n```",
        f"```\n{ADD}\n```",
        f"```python\n{ADD}",  # cut before the closing fence
        f"  ```python\n  {ADD.replace(chr(10), chr(10) + '  ')}\n  ```",  # indented in a list
        ADD,
        f"\n\n{ADD}\n\n",
        f"An example:\n```python\nadd(1, 2)\n```\nand the code:\n```python\n{ADD}\n```",
        f"```bash\npip install everything-there-is-in-the-world\n```\n```python\n{ADD}\n```",
        f"```python\n{ADD}\n```\n```python\na long block that is no Python at all, is it?\n```",
    ],
)
def test_the_program_is_found_without_fences_and_talk(reply: str) -> None:
    assert extract_code(reply) == ADD


@pytest.mark.parametrize(
    "reply",
    ["", "   ", "I cannot help with that.", "```\n```", "```json\n{}\n```", "def add(a, b):"],
)
def test_no_program(reply: str) -> None:
    assert extract_code(reply) is None


def test_broken_program_in_a_python_block_is_kept_for_its_error_message() -> None:
    assert extract_code("```python\ndef add(a, b:\n```") == "def add(a, b:"


@pytest.mark.parametrize("code", ["(" * 10_000, "\0", "-" * 50_000 + "1", "x = '\ud800'"])
def test_hostile_text_is_no_crash(code: str) -> None:
    assert not parses(code)
    assert extract_code(f"```python\n{code}\n```") == code


def test_invalid_escape_raises_no_warning() -> None:
    assert parses("pattern = '\\d'")
