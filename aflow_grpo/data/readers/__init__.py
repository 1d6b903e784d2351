"""Published datasets turned into problems: one module per dataset, one reader in each.

Every reader takes the original format and AFlow's, tells them apart by the fields, and refuses a
row it does not understand: one that is quietly wrong becomes a wrong reward. What a file may look
like is decided in `data.rows`, which file to read in `data.sources`.
"""

from aflow_grpo.data.readers.drop import read_drop
from aflow_grpo.data.readers.gsm8k import read_gsm8k
from aflow_grpo.data.readers.hotpotqa import read_hotpotqa
from aflow_grpo.data.readers.humaneval import read_humaneval
from aflow_grpo.data.readers.math_competition import read_math
from aflow_grpo.data.readers.mbpp import read_mbpp

__all__ = [
    "read_drop",
    "read_gsm8k",
    "read_hotpotqa",
    "read_humaneval",
    "read_math",
    "read_mbpp",
]
