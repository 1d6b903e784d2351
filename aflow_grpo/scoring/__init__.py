"""Is this answer right? One scorer per domain; `code` runs the hidden tests in the sandbox.

`ScorerSet` (in `scorers`) is the entrance, `settings` says which of two profiles judges: `strict`
(`math_scorer`, `qa_scorer`, `code_scorer`) or `aflow`, AFlow's published scorers (`math_aflow`,
`qa_aflow`, `code_aflow`). `own_scorers` asks those of a user. docs/scoring.md has the rules.
"""
