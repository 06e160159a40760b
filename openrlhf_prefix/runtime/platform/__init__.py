"""The machine underneath, in every process: chosen once by the driver, installed before OpenRLHF is imported.

On CUDA it leaves things as upstream has them; without CUDA the same code runs on gloo with stand-ins.
"""
