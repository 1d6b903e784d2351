"""Makes the shared helpers beside this file importable from every folder of tests."""
