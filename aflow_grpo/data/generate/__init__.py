"""The generator of sample problems: gold answers by construction, every draw from a seed."""

from aflow_grpo.data.generate.sample import (
    COUNTS,
    SHIPPED_SEED,
    FreshWordings,
    generate_problems,
    generate_sample,
    generate_worded,
    wording_kind,
    write_sample,
)

__all__ = [
    "COUNTS",
    "SHIPPED_SEED",
    "FreshWordings",
    "generate_problems",
    "generate_sample",
    "generate_worded",
    "wording_kind",
    "write_sample",
]
