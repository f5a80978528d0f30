"""What a process has loaded is kept apart from what it makes: a garbage collection walks over the latter alone."""

from __future__ import annotations

import gc


def keep_apart() -> None:
    """Leave all that there is now out of later collections; to be called once a process has started.

    A worker with torch holds 270,000 objects, an API process 125,000: a full collection, of which there is one in a
    minute, would stop either for a tenth of a second. In a process that forks it would also touch, and so copy, every
    page that is shared with the forks.
    """
    gc.collect()
    gc.freeze()
