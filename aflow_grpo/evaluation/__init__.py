"""What experiments and reports share: statistics of score tables, recorded and simulated.

| module | holds |
|---|---|
| `scores` | the scores of some workflows on some problems, repeated |
| `headroom` | what choosing a workflow per problem is worth, without the luck |
| `structure` | noise, agreement, and the variance behind the scores |
| `visibility` | how far failure shows in a problem's text |
| `recorded` | the recorded runs of gpt-4o-mini |
| `published` | figures from papers and from runs whose scores were not kept |
"""
