"""Turns itself into a server process: drops root, ties its life to the supervisor's, then executes the server.

Run as a script, by itself (`python -I -S launch.py JSON COMMAND...`), never imported by the package: it must not need
anything that an unprivileged user cannot read. Doing this in a small process of its own, instead of between fork and
exec of the supervisor, keeps it safe when the supervisor has threads.

Linux only in two points, both skipped elsewhere: the death signal (prctl(2), PR_SET_PDEATHSIG), so that the servers end
with a supervisor that was killed, and the one capability below.
"""

import contextlib
import ctypes
import json
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 4
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
# Either lets a process pass through directories closed to it; the first, weaker one is often not given to containers.
CAP_DAC_READ_SEARCH = 2
CAP_DAC_OVERRIDE = 1


def main() -> None:
    """Execute the command in argv[2:] as told by the JSON object in argv[1]; never returns."""
    told = json.loads(sys.argv[1])
    os.umask(told["umask"])
    if told["uid"] is not None:
        _become(told["uid"], told["gid"], pass_closed_directories=told["pass_closed_directories"])
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, told["death_signal"])
        if os.getppid() != told["parent"]:
            sys.exit("the supervisor ended before its server started")
    os.chdir(told["directory"])
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command is ours, without a shell


def _become(uid: int, gid: int, *, pass_closed_directories: bool) -> None:
    """Give up root for good, keeping at most the right to pass through directories closed to others."""
    keep = _capability_to_keep() if pass_closed_directories else None
    if keep is not None:
        _prctl(PR_SET_KEEPCAPS, 1)
        # Without it access(2), which initdb asks about its own programs, ignores capabilities of anybody but root.
        with contextlib.suppress(OSError):
            _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if keep is not None:
        _capset(1 << keep)
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, keep)


def _capability_to_keep() -> int | None:
    """Return the weakest capability that helps and that this process has, or None."""
    with open("/proc/self/status", encoding="ascii") as status:
        permitted = next(int(line.split()[1], 16) for line in status if line.startswith("CapPrm"))
    return next((each for each in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE) if permitted >> each & 1), None)


def _prctl(option: int, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [ctypes.c_ulong(each) for each in (*arguments, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *padded) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def _capset(mask: int) -> None:
    """Make `mask` the effective, permitted and inheritable set (capset(2), version 3: two words of 32 bits each)."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
