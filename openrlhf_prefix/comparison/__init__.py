"""The `compare` verb: methods x seeds at an equal number of optimizer steps, each at its own tuned learning rate.

plan.py      the YAML file, and which runs it asks for                          pure
commands.py  the command lines of a run, checked before the first one starts
queue.py     runs them, N at once; a finished one is never repeated
results.py   results.jsonl: one line a run
summary.py   means and intervals over seeds; which learning rate was chosen     pure
table.py     table.md                                                           pure
plots.py     the pictures
"""
