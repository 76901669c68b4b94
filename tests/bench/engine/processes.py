"""What a server's process uses, as the system counts it."""

from pathlib import Path

import psutil
import torch


def seconds_beside_the_engine(process_id: int) -> float:
    """Processor time of every thread that does not compute.

    Threads have no names that the system knows. The main thread is the event loop; of the others
    those compute that have used most, one for each compute thread.
    """
    times = {
        thread.id: thread.user_time + thread.system_time
        for thread in psutil.Process(process_id).threads()
    }
    loop = times.pop(process_id)
    computing = sorted(times.values(), reverse=True)[: torch.get_num_threads()]
    return loop + sum(times.values()) - sum(computing)


def anonymous_bytes(process_id: int) -> int:
    """Memory that is no file's."""
    lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("Anonymous:"))
    return int(kilobytes) << 10
