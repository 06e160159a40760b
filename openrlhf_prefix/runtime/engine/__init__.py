"""The Ray actors around vLLM, and the worker processes inside it.

In come token ids (prompt | prefix) with a budget, and weights after every step; out go continuations with their
rewards: the verifier's processes are children of these actors.
"""
