"""What runs in a worker (`python -m maquette.engine.worker PROGRESS`): jobs from standard input, answers to output.

Rule 1: each job runs under its limits: processor time by RLIMIT_CPU, memory by RLIMIT_AS above what the process has
        before it. The system ends who breaks the first; the second is a MemoryError in Python and an abort elsewhere.
Rule 2: the worker ends when its input does, and on Linux when its parent does, in the middle of a job too.
Rule 3: whatever a job raises is answered in words; a worker only dies of what cannot be caught.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from maquette.engine import folds, inspection, trials
from maquette.engine.replica import ReplicaBroken
from maquette.engine.rlimits import limit_memory, limit_processor
from maquette.engine.workers import Progress, read, write

Job: TypeAlias = Callable[[Mapping[str, Any], Progress], Any]

JOBS: Mapping[str, Job] = {
    "fold": folds.fold,
    "inspect": inspection.inspect,
    "trial": trials.try_update,
    "skim": trials.skim_update,
}
_FATAL = (ReplicaBroken, MemoryError, RecursionError)
"""What the bytes that a job works on are to blame for, unlike the disk or a defect of ours."""
NICE = 10  # whoever serves goes first
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Serve jobs until the input ends."""
    parent = os.getppid()
    _settle_down(parent)
    progress = Progress(sys.argv[1])
    jobs, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not get between the answers
    gc.disable()  # a job makes a million small things and keeps them to its end
    write(answers, {"ready": os.getpid()})
    while True:
        try:
            job, given, cpu, memory = read(jobs)
        except EOFError:
            return
        limit_processor(cpu)
        limit_memory(memory)
        write(answers, _answer(job, given, progress))
        gc.collect()
        limit_processor(None)
        limit_memory(None)


def _answer(job: str, given: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    try:
        return {"done": JOBS[job](given, progress)}
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pycrdt's PanicException is no Exception
        fatal = not isinstance(error, Exception) or isinstance(error, _FATAL)
        return {"failed": f"raised {error!r:.2000}", "fatal": fatal}


def _settle_down(parent: int) -> None:
    for name in ("SIGINT", "SIGTERM"):  # the server ends us when it has what it waits for
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICE)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            sys.exit()


if __name__ == "__main__":
    main()
