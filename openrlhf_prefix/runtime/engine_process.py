"""vLLM's engine process must not outlive the Ray actor that started it: it would keep the GPU from the next one."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h: the signal that this process gets when its parent ends


class DiesWithParent:
    """Part of the vLLM worker extensions: runs inside the engine process."""

    def die_with_parent(self) -> None:
        """From now on the kernel kills this process when its parent is gone."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() == 1:  # it went before the call
            os.kill(os.getpid(), signal.SIGKILL)
