"""Is this answer right? One scorer per domain; `code` runs the hidden tests in the sandbox.

`ScorerSet` (in `scorers`) is the entrance; `math_scorer`, `qa_scorer` and `code_scorer` hold the
domains' rules, `math_values` how a mathematical value is read.
"""
