"""When a run must stop to be saved in time.

A job of `limit` seconds that wants `before` of them for the save goes on only while one more step, as long as the
longest so far, still fits: at 3000 s of 3600, with 300 to save and steps of up to 320 s, 3000 + 320 > 3300 stops.
"""


def must_stop(elapsed: float, longest_step: float, limit: float | None, before: float) -> bool:
    """Whether the run has to save and stop now. Seconds since the command started; limit None: never."""
    return limit is not None and elapsed + longest_step > limit - before
