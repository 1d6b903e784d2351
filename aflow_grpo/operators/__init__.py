"""The ten operators that a workflow may await, asynchronous, on one LLM interface.

| module | holds |
|---|---|
| `base` | what an operator is, and how a workflow's arguments are checked |
| `prompts`, `replies` | what the executor is asked, and how its replies are read |
| `generation` | Custom, AnswerGenerate, CustomCodeGenerate |
| `ensembles` | ScEnsemble, MdEnsemble |
| `refinement` | Format, Review, Revise |
| `programs` | Programmer, Test |
| `registry` | `build_operators`, `run_operator`: the entrance |
"""
