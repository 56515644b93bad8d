# Moves this process's clock before anything is imported.
import os
import time

_now, _now_ns, _wrong = time.time, time.time_ns, int(os.environ["JOB_CLOCK"])
time.time = lambda: _now() + _wrong
time.time_ns = lambda: _now_ns() + _wrong * 10**9
