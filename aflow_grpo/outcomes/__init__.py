"""What a workflow is worth for a problem, learned from rollouts that were executed anyway.

| module | holds |
|---|---|
| `structure` | what makes two workflows the same one, and what near ones have in common |
| `process` | a Gaussian process over (problem, structure), with variance components |
| `model` | the outcome model: right or not, what that pays, what it costs |
| `router` | the model alone as a router: a workflow for each problem |
"""
