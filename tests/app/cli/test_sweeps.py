"""Laws of `darkroom sweeps`: one line for each sweep, the newest first; a deleted one takes its jobs with it."""

from pathlib import Path

from typer.testing import CliRunner

from darkroom.app.cli.main import cli
from tests.app.training import serving_jobs


def test_sweeps_are_listed_newest_first_and_deleted(tmp_path: Path, database_url: str) -> None:
    with serving_jobs(tmp_path, database_url) as service:

        def listed(*options: str) -> list[str]:
            result = CliRunner().invoke(cli, ["sweeps", "list", *options, "--url", service.url], env={"COLUMNS": "40"})
            assert result.exit_code == 0, result.output
            return result.output.splitlines()

        assert listed() == ["No sweeps."]
        for name in ("first", "[bold]Größe"):
            body = {"name": name, "recipe": "digits", "dataset": "shapes", "grid": {"training.seed": [1, 2, 3]}}
            assert service.client.post("/v1/sweeps", json=body).status_code == 202
        header, newest, oldest = listed()
        assert header.split() == ["sweep", "name", "fields", "jobs", "created"]
        assert "[bold]Größe" in newest
        assert "training.seed" in newest
        assert "3 queued" in newest
        assert "first" in oldest
        assert len(listed("--limit", "1")) == 2

        def delete(*options: str) -> str:
            where = ["--url", service.url]
            return CliRunner().invoke(cli, ["sweeps", "delete", "1", *options, *where], env={"COLUMNS": "40"}).output

        assert "train-jobs/1 is queued" in delete("--force")
        service.client.post("/v1/sweeps/1/cancel")
        assert [line.split()[0] for line in delete("--dry-run").splitlines()[1:]] == [
            f"train-jobs/{job}" for job in (1, 2, 3)
        ]
        assert delete("--force") == "Sweep 1 is deleted\n"
        assert len(listed()) == 2
