"""What experiments and reports share: statistics of score tables, recorded and simulated.

| module | holds |
|---|---|
| `scores` | the scores of some workflows on some problems, repeated; resampling |
| `headroom` | what choosing a workflow per problem is worth, without the luck |
| `paired` | differences between runs: interval, p-value, Holm |
| `structure` | noise, agreement, and the variance behind the scores |
| `visibility` | how far failure shows in a problem's text |
| `search`, `search_space` | three searches for a domain's best workflow, and where they look |
| `curves` | learning curves of several runs, as a picture |
| `spending` | reward against USD, and break-even |
| `recorded`, `recorded_figures` | the recorded runs of gpt-4o-mini, and all figures of them |
| `published` | figures from papers and from runs whose outputs were not kept; named contrasts |
| `simulate`, `families` | workflows run on the simulator in this process, and which ones |
| `comparison`, `calibration` | simulated beside recorded; the command |
"""
