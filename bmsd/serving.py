"""How a process that serves ends when it cannot serve: what it says, to whom, and its exit code.

The codes are those of sysexits.h where there is one. A wrong configuration does not heal by starting again:
`RestartPreventExitStatus=78`.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from bmsd.errors import BmsdError, ConfigError
from bmsd.systemd.notify import Notifier

CANNOT, DEFECT, CONFIGURATION = 1, 70, 78


def serving(run: Callable[[Path], int], path: Path) -> int:
    """Run to the end; return the exit code. What went wrong is on standard error and in the status of the service."""
    try:
        return run(path)
    except ConfigError as error:
        return _ended(CONFIGURATION, f"the configuration {path} is wrong", error.complaints)
    except BmsdError as error:
        return _ended(CANNOT, "cannot serve", [str(error)])
    except Exception:
        return _ended(DEFECT, "a defect of bmsd", traceback.format_exc().splitlines())


def _ended(code: int, what: str, lines: list[str] | tuple[str, ...]) -> int:
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201
    last = lines[-1] if code == DEFECT else lines[0]
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 and code != DEFECT else ""
    Notifier().status(f"{what}: {last}{more}")
    return code
