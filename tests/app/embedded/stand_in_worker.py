"""A stand-in for a worker, which `up` runs in these tests: python stand_in_worker.py NAME.

It has a child, like the pool of a worker. On SIGTERM it waits HAND_BACK_SECONDS, then uses both servers and ends.
"""

import os
import signal
import subprocess
import sys
import time

import psycopg
import redis

CHILD = """
import ctypes, os, signal, sys, time
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):  # otherwise the parent died before the call above
    time.sleep(600)
"""

name = sys.argv[1]
child = subprocess.Popen([sys.executable, "-c", CHILD, str(os.getpid())])


def hand_back(number: int, frame: object) -> None:
    print(f"{name} was asked to end", flush=True)
    time.sleep(float(os.environ.get("HAND_BACK_SECONDS", "0.5")))
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("SELECT count(*) FROM jobs")
    redis.Redis.from_url(os.environ["REDIS_URL"]).ping()
    child.kill()
    print(f"{name} has handed back", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, hand_back)
print(f"{name} of {os.environ['DARKROOM_WORKER_NAME']} with {os.environ['DARKROOM_CACHE_FOLDER']}", flush=True)
while True:
    time.sleep(600)
