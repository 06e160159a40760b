"""What learner and engine share: the weights, on their way from the one to the other.

`sync` sends them where there is no NCCL, `check` compares fingerprints of both sides after every sync.
"""
