"""Whether to look again and again for what arrives next, or to sleep until it does.

To be woken on another core takes up to 80 us, as long as a small command takes. So whoever is
answered promptly looks for the next frame in a loop, for a while, and leaves the core to others
between two looks. Where others do want the core that would come to more, since they keep it for
milliseconds and a sleeper would be put before them; so then nobody polls, for a time.
"""

import os
import time

CROWDED_SECONDS = 0.0005
"""Who is without the core for longer shares it with somebody who computes."""
BACK_OFF_SECONDS = 0.1
"""How long not to poll after that."""


class Polling:
    """Decides for one socket, from how long the last frames were waited for.

    Args:
        prompt_seconds: The longest wait that is worth polling for.
    """

    def __init__(self, prompt_seconds: float) -> None:
        self._prompt_seconds = prompt_seconds
        self._prompt = False
        self._crowded_until = 0.0

    def waited(self, seconds: float) -> None:
        """Learns how long what arrived was waited for, polling or asleep."""
        self._prompt = seconds < self._prompt_seconds

    def goes_on(self, began: float) -> bool:
        """Whether to look (again) for what has been waited for since `began`, a `perf_counter`."""
        if not self._prompt:
            return False
        now = time.perf_counter()
        return now - began < self._prompt_seconds and now >= self._crowded_until

    def leave_core(self) -> None:
        """Lets others run, between two looks."""
        left = time.perf_counter()
        os.sched_yield()
        back = time.perf_counter()
        if back - left > CROWDED_SECONDS:
            self._crowded_until = back + BACK_OFF_SECONDS
