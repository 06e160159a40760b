"""From a command line to checked flags, in the driver and in every verb that takes flags; no process of its own.

In come argv and a YAML file, out goes one nested object, after OpenRLHF's checks and ours.

flags         ours                                      upstream_cli   OpenRLHF's parser and checks, as they are
preset_flags  what a preset says of them, and OpenRLHF's names for them
config        YAML and argparse as one list             resolve        all of it in order; what `train` starts with
derived       what follows from checked flags           plugins        methods from a file of the user's
checks/       what cannot hold together                 model          the model that the flags name
upstream_flags  what each flag of OpenRLHF is worth      renamed        its earlier names, answered with today's
reference     every flag as data: default, meaning, what moves it; of it are made
help          `--help`, all or a group                  flag_docs      docs/flags.md
schema        configs/schema.json                       upstream_words meanings that OpenRLHF's help leaves out
"""
