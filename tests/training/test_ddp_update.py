"""One update on two ranks: the loss, gradient and weights of one process on the same batch.

In double precision, so that little but the order of additions differs. Real processes on gloo.
"""

from typing import Any

import pytest
import torch
from rank_processes import join_ranks, start_ranks
from rank_updates import CASES, make_batches, rank_cases, run_cases

EXACT = {"gradient": 1e-7, "weights": 1e-5}
"""Largest differences; the gradient's norm is 1. In double precision sums in another order differ
by 1e-15, but transformers' norm layers round to single precision, where that can be the last bit.
Adam moves a weight by 1e-3 * g / (|g| + 1e-8), so where the gradient is near 0 an error of 1e-10
becomes one of 1e-5."""
AFTER_STEPS = {"gradient": 1e-5, "weights": 1e-5}
"""The last of several steps is made with such weights."""
ITERATIONS = {0: "whole groups", 1: "uneven groups and ranks", 2: "an empty rank"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one process found, then each of two ranks."""
    folder = tmp_path_factory.mktemp("updates")
    batches = make_batches()
    (folder / "one").mkdir()
    run_cases(batches, folder / "one")
    assert join_ranks(start_ranks(rank_cases, batches, folder)) == [0, 0]
    files = [folder / "one" / "0.pt", folder / "0.pt", folder / "1.pt"]
    return [torch.load(path, weights_only=True) for path in files]


@pytest.mark.parametrize("iteration", ITERATIONS, ids=ITERATIONS.__getitem__)
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_update_as_one_process_does(
    found: list[dict[str, Any]], case: str, iteration: int
) -> None:
    one, *ranks = (outcome[case][iteration] for outcome in found)
    assert one["gradient"].abs().max() > 1e-6, "otherwise nothing would be compared"
    tolerances = AFTER_STEPS if case in ("minibatches", "demonstrations") else EXACT
    for theirs in ranks:
        for part, tolerance in tolerances.items():
            torch.testing.assert_close(theirs[part], one[part], rtol=0, atol=tolerance)
        assert theirs["metrics"] == pytest.approx(one["metrics"], rel=1e-6, abs=1e-9)
    assert torch.equal(ranks[0]["weights"], ranks[1]["weights"]), "the ranks have drifted apart"
