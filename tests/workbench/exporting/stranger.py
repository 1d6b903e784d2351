"""Runs the examples of model cards where aflow_grpo cannot be imported; a process of its own.

Usage: stranger.py OUTPUT FOLDER…; beside the folders lie the base models that the cards name.
"""

import contextlib
import io
import os
import re
import sys
from pathlib import Path

sys.modules["aflow_grpo"] = None  # an import of it fails

import torch  # noqa: E402


def example(card):
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.M | re.S)
    return code


def main(output, *folders):
    torch.set_num_threads(1)
    found = {}
    for folder in map(Path, folders):
        os.chdir(folder)
        for base in ("tiny-policy", "base"):
            if (folder.parent / base).exists() and not Path(base).exists():
                Path(base).symlink_to(folder.parent / base)
        printed, names = io.StringIO(), {}
        with contextlib.redirect_stdout(printed):
            exec(compile(example(Path("README.md").read_text()), "example", "exec"), names)
        with torch.no_grad():
            logits = names["model"](input_ids=names["output"]).logits
        found[folder.name] = {
            "text": printed.getvalue().removesuffix("\n"),
            "ids": names["output"],
            "logits": logits,
            "dtype": str(names["model"].dtype),
        }
    torch.save(found, output)


main(*sys.argv[1:])
