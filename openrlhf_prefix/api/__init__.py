"""Train, evaluate and compare from Python, over the code of the command line; `openrlhf_prefix` itself names them."""
