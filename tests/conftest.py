"""Makes the shared helpers beside this file importable from every folder of tests.

The hub is not asked for what is not here: libraries read this when they are imported.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
