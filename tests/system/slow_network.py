"""A proxy that delays every round trip to PostgreSQL, like a network between machines."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from darkroom.store.database import parse_url

_SOCKET = ".s.PGSQL.5432"


@contextmanager
def slow_network(database_url: str, folder: Path, seconds: float) -> Iterator[str]:
    """Run the proxy and yield a DATABASE_URL through it. folder: for its socket; seconds: added to a round trip."""
    parsed = parse_url(database_url)
    host = str(parsed.query["host"])
    loop = asyncio.new_event_loop()
    begun = threading.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        try:
            while data := await reader.read(1 << 16):
                await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(f"{host}/{_SOCKET}")
        await asyncio.gather(pass_on(reader, back, seconds), pass_on(there, writer, 0.0), return_exceptions=True)

    async def serve() -> None:
        server = await asyncio.start_unix_server(connect, str(folder / _SOCKET))
        begun.set()
        async with server:
            await server.serve_forever()

    def run() -> None:
        asyncio.set_event_loop(loop)
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)

    serving = loop.create_task(serve())
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    begun.wait()
    try:
        yield parsed.update_query_dict({"host": str(folder)}).render_as_string(hide_password=False)
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()
