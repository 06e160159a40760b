"""What controller and learner share: the rows of a batch, on their way from the one to the other.

How they become optimizer steps, ranks and micro-batches, and what a row carries beyond OpenRLHF's Experience.
"""
