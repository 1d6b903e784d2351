"""GRPO's mathematics as pure functions on tensors: advantages, losses, log-probabilities.

No model, no optimiser, no Lightning: everything here can be checked by hand.
"""
