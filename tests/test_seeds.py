"""Seeds depend on names alone, and fit where they are sent."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.seeds import derive_seed

PARTS = st.lists(st.integers() | st.text(max_size=8), max_size=4)


def test_seeds_are_the_same_in_another_process() -> None:
    code = "from aflow_grpo.seeds import derive_seed; print(derive_seed(1, 'val', 'p/é', 3))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(output.stdout) == derive_seed(1, "val", "p/é", 3)


def test_parts_are_kept_apart() -> None:
    seeds = [derive_seed("ab", "c"), derive_seed("a", "bc"), derive_seed("abc"), derive_seed(1, 23)]
    assert len({*seeds, derive_seed(12, 3), derive_seed("1", 23)}) == 6


@given(PARTS)
def test_seeds_fit_31_bits(parts: list[int | str]) -> None:
    assert 0 <= derive_seed(*parts) < 2**31
