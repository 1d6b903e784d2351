"""GRPO for a small policy that writes agent workflows, rewarded by really executing them."""

__version__ = "0.1.0"
