"""The `evaluate` and `data` verbs: an HF folder on files of problems, sampled by vLLM, without a trainer or Ray.

command       options, and what is done in which order
prepare       files, prompts and settings: all that can be refused before an engine starts
sampling      the engine's loop, and what judges and records each sample as it ends
against       the same for a base, and what changed: gains with intervals, forgetting
data_command  `data`: filter and collect, beside what data/commands.py does without a model
own_samples   pass rates and demonstrations from the samples of a file of problems
divergence    KL(base || now) on prompts, in a process of its own
"""
