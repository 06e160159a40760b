"""The process that the user started: `train` on this machine, or the entrypoint of a Ray job.

In come checked flags; it reads problems and demonstrations, looks at nodes and checkpoints, starts Ray and the actors,
and shows what the controller puts on its board. Out come an exit code, the final table and the export's path.
"""
