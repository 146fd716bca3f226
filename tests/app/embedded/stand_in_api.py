"""A small stand-in for the API, which `up` runs in these tests.

GET /readyz: 200 when both servers answer. GET /slow: answers after SLOW_SECONDS, even if SIGTERM arrives meanwhile.
GET /environment: its environment. GET /end: ends the process with exit code 3.
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import redis


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b""
        if self.path == "/readyz":
            with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
                connection.execute("SELECT count(*) FROM models")
            redis.Redis.from_url(os.environ["REDIS_URL"]).ping()
        elif self.path == "/slow":
            print("slow request begun", flush=True)
            time.sleep(float(os.environ.get("SLOW_SECONDS", "1")))
            with psycopg.connect(os.environ["DATABASE_URL"]) as connection:  # the database still answers
                connection.execute("SELECT 1")
        elif self.path == "/environment":
            body = json.dumps(dict(os.environ)).encode()
        elif self.path == "/end":
            print("the stand-in was told to end", flush=True)
            os._exit(3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for running requests


server = Server((sys.argv[1], int(sys.argv[2])), Handler)
signal.signal(signal.SIGTERM, lambda number, frame: threading.Thread(target=server.shutdown).start())
server.serve_forever(poll_interval=0.05)
server.server_close()
