"""What scripts/gpu_smoke.py is made of: one GPU, ten minutes, eight stages.

run.py        the stages one after the other, each a process of its own; table and JSON
stage.py      what a stage tells, and how it is started
carry.py      the folder for a machine without a network: made there, used here
stand_ins.py  Ray and vLLM where they are not installed
sizes.py      how large the model and the rows are: on a GPU, on a CPU, in a test
adam.py build.py learner.py ipc.py attention.py head.py numerics.py     the stages
"""
