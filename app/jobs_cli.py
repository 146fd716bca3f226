"""`darkroom jobs`: the commands, whose work is done in `app/jobs_client.py`."""

from typing import Annotated

import typer

jobs_cli = typer.Typer(help="Training jobs of a running service.", invoke_without_command=True)

Url = Annotated[
    str | None,
    typer.Option(help="where the API is; default: DARKROOM_URL, else the service of .darkroom, else port 8000 here"),
]
JobId = Annotated[int, typer.Argument(min=1, help="the job's number")]


@jobs_cli.callback()
def jobs(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="only those in this state")] = None,
    model: Annotated[str | None, typer.Option(help="only those that train this model")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    url: Url = None,
) -> None:
    """Training jobs: without a command, a table of the newest."""
    if context.invoked_subcommand is not None:
        return
    from app.jobs_client import list_jobs

    raise typer.Exit(list_jobs(url, {"status": status, "model": model, "limit": limit}))


@jobs_cli.command()
def submit(
    recipe: Annotated[str, typer.Argument(help="a recipe that the service has, or a YAML file here")],
    dataset: Annotated[str | None, typer.Option(help="a registered data set")] = None,
    model: Annotated[str | None, typer.Option(help="what the model is called; default: as the recipe")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="a field of the recipe by dotted name; a value as JSON or text"
        ),
    ] = None,
    priority: Annotated[int, typer.Option(help="higher ones run first")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    promote: Annotated[
        bool, typer.Option("--promote", help="serve the best checkpoint at the end (a key needs the scope admin)")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="and watch it")] = False,
    url: Url = None,
) -> None:
    """Queue a training job, such as:

    darkroom jobs submit digits --set training.total_images=200000 --set 'model={"unet":{"dropout":0.1}}'
    """
    from app.jobs_client import submit_job

    fields = {"dataset": dataset, "model": model, "priority": priority, "device": device}
    asked = {name: value for name, value in fields.items() if value is not None}
    asked["promote"] = "best" if promote else "never"
    raise typer.Exit(submit_job(url, recipe, asked, settings or [], watch=watch))


@jobs_cli.command()
def watch(job_id: JobId, url: Url = None) -> None:
    """Watch a job to its end; Ctrl-C leaves it running. Exit code 0: it succeeded, 1: it failed or was cancelled."""
    from app.jobs_client import watch_job

    raise typer.Exit(watch_job(url, job_id))


@jobs_cli.command()
def cancel(job_id: JobId, url: Url = None) -> None:
    """Cancel a job; a running one is asked to save a checkpoint first, and is killed if it takes too long."""
    from app.jobs_client import change_job

    raise typer.Exit(change_job(url, job_id, "cancel"))


@jobs_cli.command()
def resume(job_id: JobId, url: Url = None) -> None:
    """Queue a cancelled job again, to go on from its last checkpoint."""
    from app.jobs_client import change_job

    raise typer.Exit(change_job(url, job_id, "resume"))


@jobs_cli.command()
def retry(job_id: JobId, url: Url = None) -> None:
    """Queue a failed job again, to go on from its last checkpoint."""
    from app.jobs_client import change_job

    raise typer.Exit(change_job(url, job_id, "retry"))


@jobs_cli.command()
def logs(job_id: JobId, url: Url = None) -> None:
    """Print what the training process wrote."""
    from app.jobs_client import print_log

    raise typer.Exit(print_log(url, job_id))
