"""Laws of the gauges of the database's pool: what is open and what may be, at the moment of the scrape."""

from darkroom.app.monitoring.prometheus import PrometheusMetrics
from darkroom.store.database import Database


def _told(metrics: PrometheusMetrics) -> tuple[float | None, float | None, float | None]:
    """(in use, idle, limit)."""
    open_ones = "darkroom_database_pool_connections"
    read = metrics.registry.get_sample_value
    in_use, idle = (read(open_ones, {"state": state}) for state in ("in_use", "idle"))
    return in_use, idle, read("darkroom_database_pool_limit_connections")


def test_the_pool_tells_what_is_in_use_and_what_waits(database_url: str) -> None:
    database, metrics = Database(database_url, pool_connections=2), PrometheusMetrics()
    metrics.watch_pool(database.pool_use)
    assert _told(metrics) == (0, 0, 4)
    with database.engine.connect(), database.engine.connect():
        assert _told(metrics) == (2, 0, 4)
        with database.engine.connect():  # one more than are kept
            assert _told(metrics) == (3, 0, 4)
    assert _told(metrics) == (0, 2, 4)
    database.dispose()
    assert _told(metrics) == (0, 0, 4)
