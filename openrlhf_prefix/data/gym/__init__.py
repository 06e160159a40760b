"""Problems of reasoning-gym (arXiv 2505.24760) as rows of the contract, with demonstrations by solvers of ours."""
