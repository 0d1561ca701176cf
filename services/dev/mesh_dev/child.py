"""The first instructions of every child: be gone when the parent is gone, then become the program.

It runs by its path under `python -I -S`, before anything of ours is importable, so it uses the standard library
alone. A `preexec_fn` would do the same between fork and exec, where Python code may deadlock in a threaded parent.
The kernel keeps the death signal over `execve`; where there is no such call (macOS) the child just starts.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arguments: the death signal's number, the parent's process id, then the program and its arguments."""
    death_signal, parent_pid, *argv = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    # A parent that died before the call above will send no signal any more.
    if os.getppid() != int(parent_pid):
        raise SystemExit(1)
    os.execvp(argv[0], argv)  # noqa: S606 - becoming the program, without a shell, is the point


if __name__ == "__main__":
    main()
