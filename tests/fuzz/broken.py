"""A target with every fault, to see that the driver finds them."""

import os
import random
import signal
import time

from fuzz.target import Target


class Broken(Target):
    """Number 0 is read, 1 refused, and so on."""

    max_seconds = 5.0
    max_megabytes = 64.0

    def try_one(self, rng: random.Random) -> tuple[str, str, dict[str, int]]:
        self.input.write_bytes(rng.randbytes(8))
        number = len(list(self.folder.parent.glob("tried-*")))
        (self.folder.parent / f"tried-{number}").touch()
        faults = {
            2: lambda: 1 / 0,
            3: lambda: os.kill(os.getpid(), signal.SIGSEGV),
            4: lambda: time.sleep(60),
            5: lambda: bytearray(2**27),
            6: lambda: os._exit(0),
        }
        faults.get(number, lambda: None)()
        return f"kind {number}", "refused" if number == 1 else "read", {"answers": 1}
