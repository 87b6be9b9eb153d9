"""How a process that serves ends when it cannot serve: what it says, to whom, and its exit code.

A wrong configuration does not heal by starting again: `RestartPreventExitStatus=78`.
"""

from __future__ import annotations

import faulthandler
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from bmsd.errors import CANNOT, CONFIGURATION, DEFECT, BmsdError, ConfigError
from bmsd.systemd.journal import Journal, encode, stderr_is_journal
from bmsd.systemd.notify import Notifier
from bmsd.systemd.record import Identifier, of_failure

READ_WITHIN_S = 0.2
"""journald asks whose a record is when it reads it; of a process that has ended, `journalctl -u` shows nothing."""


def serving(run: Callable[[Path], int], path: Path, identifier: Identifier = "bmsd") -> int:
    """Run to the end; return the exit code. What went wrong is in the log and in the status of the service."""
    faulthandler.enable()  # a watchdog aborts: then standard error says where every thread was
    try:
        return run(path)
    except ConfigError as error:
        _say(identifier, "configuration.wrong", error.complaints)
        more = f" (and {len(error.complaints) - 1} more)" if len(error.complaints) > 1 else ""
        Notifier().status(f"the configuration {path} is wrong: {error.complaints[0]}{more}")
        return CONFIGURATION
    except BmsdError as error:
        _say(identifier, "service.failed", [str(error)])
        Notifier().status(f"cannot serve: {error}")
        return CANNOT
    except Exception as error:
        _say(identifier, "service.failed", [traceback.format_exc().rstrip()])
        Notifier().status(f"a defect of bmsd: {type(error).__name__}: {error}")
        return DEFECT


def _say(identifier: Identifier, kind: str, texts: Sequence[str]) -> None:
    """Write to journald where standard error goes there, else to standard error."""
    try:
        if stderr_is_journal():
            journal = Journal()
            for text in texts:
                journal.send(encode(of_failure(identifier, kind, text)))
            time.sleep(READ_WITHIN_S)
            return
    except OSError:
        pass
    for text in texts:
        print(text, file=sys.stderr)  # noqa: T201
