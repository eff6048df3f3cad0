"""What was loaded before a process serves is out of the collector's rounds."""

import subprocess
import sys

_CODE = """
import gc
from headstart.cluster.process_memory import keep_loaded
before = len(gc.get_objects())
keep_loaded()
assert gc.get_freeze_count() > before / 2, (gc.get_freeze_count(), before)
assert len(gc.get_objects()) < before / 2
assert gc.get_threshold()[0] > 700
"""


def test_the_collector_passes_over_what_stays() -> None:
    subprocess.run([sys.executable, "-c", _CODE], check=True, timeout=60)
