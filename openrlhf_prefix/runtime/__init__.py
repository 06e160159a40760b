"""Everything that needs ray, vllm, deepspeed or openrlhf. A folder is a process, or what two processes share.

    audit, evaluate       look at a run or a model
        driver            the command that the user started: checks, cluster, signs of life
        controller        one Ray actor: the loop, prefixes, advantages, logs
    engine | learner      Ray actors on the GPUs: vLLM's rollouts | DeepSpeed's optimizer steps
        platform          CUDA, or a CPU that answers its calls
    rows | weights        what travels: rows to the learner | weights to the engines
    seams, deadlines      where upstream is replaced, and how long anybody waits

Imports run downwards only. docs/architecture.md follows a prefix through all of them.
"""
