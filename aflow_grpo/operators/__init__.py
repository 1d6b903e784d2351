"""The ten operators that a workflow may await, on one LLM interface, and a place for a user's own.

| module | holds |
|---|---|
| `base` | what an operator is, and how arguments and results are checked |
| `prompts`, `replies` | what the executor is asked, and how its replies are read |
| `generation` | Custom, AnswerGenerate, CustomCodeGenerate |
| `ensembles` | ScEnsemble, MdEnsemble |
| `refinement` | Format, Review, Revise |
| `programs` | Programmer, Test |
| `registry` | `OperatorKit`, `load_operators`, `run_operator`: the entrance |
"""
