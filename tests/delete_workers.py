"""Workers of the queue `delete`, one after the other: `python -m tests.delete_workers DATABASE_URL BATCH_ROWS`.

Each line it reads starts a process that works the queue off; once that has ended, it prints how: 0, or the signal, negative.
The processes are forked, because what takes long to start is Python. No bell rings: nobody listens.
"""

import os
import sys

from cryptography.fernet import Fernet

import workers.delete
from ingest.jobs.publisher import NoPublisher
from ingest.runtime import Runtime
from ingest.settings import read_settings
from workers.handling import drain


def work(database_url: str) -> None:
    """Work off what is due."""
    runtime = Runtime.from_settings(
        read_settings(
            database_url=database_url,
            broker_url="redis://127.0.0.1:1/0",
            secret_key=Fernet.generate_key().decode(),
        )
    )
    runtime.__dict__["publisher"] = NoPublisher()
    while drain(runtime, "delete"):
        pass


if __name__ == "__main__":
    workers.delete.BATCH_ROWS = int(sys.argv[2])
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            try:
                work(sys.argv[1])
            except BaseException:
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
