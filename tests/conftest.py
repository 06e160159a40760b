"""Marks and paths shared by all tests."""

import os
import warnings

# Nothing here may reach for a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore", message="The pynvml package is deprecated", category=FutureWarning)
