"""The same rows through every layout of an optimizer step: do they move the parameters alike?

batch.py      awkward rows, and the change they must cause, worked out row by row
layouts.py    the ways to compute a step, their flags, and the table of what was found
training.py   one layout through OpenRLHF's actor and a real DeepSpeed engine
measure.py    one process per rank, all layouts one after the other; the `exactness` verb
"""
