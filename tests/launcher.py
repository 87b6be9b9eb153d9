"""Starts a program as a service manager does that has opened its sockets: `python launcher.py NAMES FDS PROGRAM ...`.

NAMES are those of the sockets, FDS their descriptors in this process, both parted by commas.
"""

from __future__ import annotations

import os
import sys

FIRST = 3


def main() -> None:
    names, numbers, *program = sys.argv[1:]
    spare = [os.dup2(int(number), 100 + index) for index, number in enumerate(numbers.split(","))]
    for index, number in enumerate(spare):
        os.dup2(number, FIRST + index, inheritable=True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(spare)), LISTEN_FDNAMES=names.replace(",", ":"))
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
