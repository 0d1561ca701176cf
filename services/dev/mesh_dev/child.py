"""The first instructions of every child process: die with the parent, then become the program.

It is run by path under `python -I -S`, where none of our packages is importable, so it uses only the standard library.
A `preexec_fn` would do the same between fork and exec, but Python code there may deadlock in a threaded parent. The
kernel preserves the death signal across `execve`. Without this system call (macOS), the child just starts.
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
    # If the parent died before the call above, no signal will come.
    if os.getppid() != int(parent_pid):
        raise SystemExit(1)
    os.execvp(argv[0], argv)  # noqa: S606 - replaces this process by the program, without a shell


if __name__ == "__main__":
    main()
