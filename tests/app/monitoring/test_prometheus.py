"""Laws of the connection pool's gauges: connections in use, idle ones and their limit, at the time of the scrape."""

from darkroom.app.monitoring.prometheus import PrometheusMetrics
from darkroom.store.database import Database, Pool


def _gauges(metrics: PrometheusMetrics) -> tuple[float | None, float | None, float | None]:
    """Return (in use, idle, limit)."""
    open_ones = "darkroom_database_pool_connections"
    read = metrics.registry.get_sample_value
    in_use, idle = (read(open_ones, {"state": state}) for state in ("in_use", "idle"))
    return in_use, idle, read("darkroom_database_pool_limit_connections")


def test_the_gauges_show_connections_in_use_and_idle_ones(database_url: str) -> None:
    database, metrics = Database(database_url, Pool(2, 2)), PrometheusMetrics()
    metrics.watch_pool(database.pool_use)
    assert _gauges(metrics) == (0, 0, 4)
    with database.engine.connect(), database.engine.connect():
        assert _gauges(metrics) == (2, 0, 4)
        with database.engine.connect():  # one more than the pool keeps open
            assert _gauges(metrics) == (3, 0, 4)
    assert _gauges(metrics) == (0, 2, 4)
    database.dispose()
    assert _gauges(metrics) == (0, 0, 4)
