"""Are the numbers right? `doctor` starts the actors of a run and examines them; `exactness` needs no Ray.

In come the flags of a run, or the layouts of a step; out comes a table of findings, and exit code 1 if one is wrong.
"""
