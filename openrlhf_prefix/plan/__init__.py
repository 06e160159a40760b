"""Does a run fit, before a GPU is asked for? From the model's config and the flags alone; no weights, no cluster.

architectures   the config of a model, and how many parameters of which size it has
memory          bytes per GPU, by item and phase
mends           the flags that make it fit, each tried
command         the `plan` verb
"""
