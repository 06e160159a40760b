"""A method from outside the package, for --hybrid.plugin: a row and a small function."""

from openrlhf_prefix.algorithm.imitation import IMITATION
from openrlhf_prefix.algorithm.presets import PRESETS, Preset

IMITATION["focal"] = lambda tokens: -(1 - tokens.log_probs.detach().exp()) * tokens.log_probs
PRESETS["focal"] = Preset(source="an example", demonstration="whole", imitation="focal", imitation_mean="tokens")
