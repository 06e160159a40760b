"""The Ray actors that hold the policy under DeepSpeed, one a GPU.

In come rows dealt out by the controller; out go old log-probs and entropies, metrics of the optimizer steps,
weights to the engines, and their share of checkpoints and exports.
"""
