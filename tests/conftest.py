"""Makes the shared helpers beside this file importable from every folder of tests.

The hub is not asked for what is not here: libraries read this when they are imported. No property
test has a deadline: how long an example takes says how busy the machine is.
"""

import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
