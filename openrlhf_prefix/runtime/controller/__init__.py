"""The one Ray actor that runs the loop, without a GPU.

In come problems, and completions and rewards from the engines; out go requests (prompt | prefix ids, budget) to the
engines, rows with an advantage per token to the learner, and metrics, rollouts and its state to the run folder.
"""
