"""What learner and engine share: the weights, on their way from the one to the other.

`buckets` lays them out for the way, `sync` sends them where there is no NCCL, `check` compares
fingerprints of both sides.
"""
