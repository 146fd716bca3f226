"""The command line: `darkroom up`, `train`, `generate`, `jobs`, `keys` and so on.

Each command imports what it needs when it runs, so that `--help` is fast.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from darkroom import __version__
from darkroom.app.cli.asking import FitOption, Ground, SkipDamaged, Url
from darkroom.app.cli.datasets import datasets_cli, upload
from darkroom.app.cli.jobs import jobs_cli
from darkroom.app.cli.keys import DEFAULT_STATE, audit, keys_cli, migrate
from darkroom.app.cli.models import download, models_cli
from darkroom.app.cli.storage import storage
from darkroom.app.cli.sweeps import sweeps_cli
from darkroom.app.cli.verify import verify
from darkroom.model.user_error import ending_in_one_line
from darkroom.shipped import shipped_file


class _Commands(TyperGroup):
    """All commands. An error that the user can correct ends each of them with one line."""

    def invoke(self, ctx: Any) -> Any:
        with ending_in_one_line():
            return super().invoke(ctx)


cli = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.add_typer(jobs_cli, name="jobs")
cli.add_typer(sweeps_cli, name="sweeps")
cli.add_typer(datasets_cli, name="datasets")
cli.add_typer(models_cli, name="models")
cli.add_typer(keys_cli, name="keys")
cli.command()(upload)
cli.command()(download)
cli.command()(verify)
cli.command()(storage)
cli.command()(audit)
cli.command()(migrate)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"darkroom {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version and exit")
    ] = False,
) -> None:
    """Trains class-conditional image diffusion models and serves them."""


Host = Annotated[str, typer.Option(help="address to listen on; any address but loopback needs API keys")]
Port = Annotated[int, typer.Option(help="port to listen on")]


@cli.command()
def up(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    state: Annotated[Path, typer.Option(help="folder for the databases, logs and caches")] = DEFAULT_STATE,
    devices: Annotated[
        str | None,
        typer.Option(
            help="such as cuda:0,cuda:1: an API, on --port and the following ones, and a worker for each; default: one "
            "of each, on DARKROOM_DEVICE and DARKROOM_WORKER_DEVICE"
        ),
    ] = None,
) -> None:
    """Start PostgreSQL, Redis, the API and a worker, or one of each for each device; Ctrl-C stops them all."""
    from darkroom.app.embedded.up import up as run

    raise typer.Exit(run(state, host, port, devices))


@cli.command()
def api(host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Run only the API, with the servers at DATABASE_URL and REDIS_URL."""
    from darkroom.app.embedded.process_commands import api_command, become, reached_at

    os.environ["DARKROOM_HOST"] = reached_at(host)
    become(api_command(host, port))


@cli.command()
def worker() -> None:
    """Run only a worker; on SIGTERM it hands its job back and ends."""
    from darkroom.app.embedded.process_commands import become, worker_commands

    become(worker_commands()["worker"])


@cli.command()
def reconciler() -> None:
    """Run only the reconciler, which returns lost jobs to the queue; a service needs one, and several do no harm."""
    from darkroom.app.embedded.process_commands import become, worker_commands

    become(worker_commands()["reconciler"])


@cli.command()
def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="a shipped recipe's name, such as digits, or a YAML file; with --minutes a folder of class folders, a "
            "zip of one, or an npz archive"
        ),
    ],
    minutes: Annotated[
        float | None, typer.Option(help="time for a training whose recipe Darkroom plans from the pictures")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="folder of the run; default: runs/NAME")] = None,
    datasets: Annotated[Path, typer.Option(help="cache of decoded data sets")] = DEFAULT_STATE / "datasets",
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: CUDA where there is one")] = None,
    long: Annotated[bool, typer.Option("--long", help="allow a run that would take more than a day")] = False,
    fit: FitOption = "crop",
    ground: Ground = "#ffffff",
    skip_damaged: SkipDamaged = False,
) -> None:
    """Train a recipe, or on a folder of pictures, or continue such a run.

    Writes checkpoints, the loss curve and sample grids into the folder.
    """
    from darkroom.app.cli.train import planned_recipe, run_training
    from darkroom.model.planning.plan import PlanError

    pictures = recipe.is_dir() or recipe.suffix.lower() in (".zip", ".npz")
    if minutes is not None:
        if not pictures:
            raise PlanError(f"{recipe} is no folder, zip or npz archive of pictures: --minutes needs one")
        reading = {"fit": fit, "ground": ground, "skip_damaged": skip_damaged}
        recipe, folder = planned_recipe(recipe, minutes, folder, datasets, device, reading)
    elif pictures:
        raise PlanError(f"{recipe} holds pictures: say how long to train, such as --minutes 45")
    elif (fit, ground, skip_damaged) != ("crop", "#ffffff", False):
        raise PlanError(
            f"--fit, --ground and --skip-damaged are for pictures: set them in the section dataset of {recipe}"
        )
    named = shipped_file(str(recipe), "recipes", ".yaml", "recipe")
    raise typer.Exit(run_training(named, folder, datasets, device, long=long))


@cli.command()
def plan(
    data: Annotated[Path, typer.Argument(help="a folder of class folders, a zip of one, or an npz archive")],
    minutes: Annotated[float, typer.Option(help="time that the training may take")],
    datasets: Annotated[Path, typer.Option(help="cache of decoded data sets")] = DEFAULT_STATE / "datasets",
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: CUDA where there is one")] = None,
    fit: FitOption = "crop",
    ground: Ground = "#ffffff",
    skip_damaged: SkipDamaged = False,
) -> None:
    """Show how `darkroom train DATA --minutes N` would train, and why, without starting."""
    from darkroom.app.cli.terminal import open_console
    from darkroom.app.cli.train import plan_training

    reading = {"fit": fit, "ground": ground, "skip_damaged": skip_damaged}
    plan_training(data, minutes, datasets, device, open_console(), reading)


@cli.command()
def evaluate(
    weights: Annotated[Path, typer.Argument(help="a weights file, or a shipped model's name, such as fashion-mnist")],
    recipe: Annotated[
        Path | None, typer.Option(help="a recipe with the data set and the settings; default: the weights file's own")
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="path of the recipe's data set on this machine")] = None,
    split: Annotated[
        str | None, typer.Option(help="images to compare with: train, test or all; default: the recipe's")
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="fid,kid,precision_recall,... ; default: the recipe's")] = None,
    extractor: Annotated[str | None, typer.Option(help="efficientnet-lite0 or inception")] = None,
    images: Annotated[int | None, typer.Option("--images", "-n", help="generated images")] = None,
    steps: Annotated[int | None, typer.Option()] = None,
    sampler: Annotated[str | None, typer.Option()] = None,
    guidance: Annotated[float | None, typer.Option()] = None,
    threshold: Annotated[str | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE: any other setting of a recipe's evaluation or sampling"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    datasets: Annotated[Path, typer.Option(help="cache of decoded data sets")] = DEFAULT_STATE / "datasets",
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: CUDA where there is one")] = None,
) -> None:
    """Measure a weights file. Prints each figure with its protocol; equal protocols in training give equal figures."""
    from darkroom.app.cli.assignments import assignments
    from darkroom.app.cli.evaluate import EvaluationRequest, run_evaluation

    fields = {
        "metrics": tuple(metrics.split(",")) if metrics else None,
        "extractor": extractor,
        "images": images,
        "steps": steps,
        "sampler": sampler,
        "guidance": guidance,
        "threshold": threshold,
        "seed": seed,
    }
    named = {name: value for name, value in fields.items() if value is not None}
    settings = named | assignments(also or [], given=named)
    weights = shipped_file(str(weights), "weights", ".safetensors", "model")
    if recipe is not None:
        recipe = shipped_file(str(recipe), "recipes", ".yaml", "recipe")
    request = EvaluationRequest(weights, recipe, dataset, split, settings)
    raise typer.Exit(run_evaluation(request, datasets, device, as_json))


@cli.command()
def generate(
    classes: Annotated[list[str], typer.Argument(help="names of classes, or their indices")],
    n: Annotated[int, typer.Option(help="images of each class")] = 1,
    out: Annotated[Path, typer.Option(help="a .png, .webp, .zip, .npz or .json file")] = Path("darkroom.png"),
    guidance: Annotated[float | None, typer.Option()] = None,
    steps: Annotated[int | None, typer.Option()] = None,
    sampler: Annotated[str | None, typer.Option()] = None,
    threshold: Annotated[str | None, typer.Option()] = None,
    percentile: Annotated[float | None, typer.Option()] = None,
    quality: Annotated[str | None, typer.Option(help="fast, balanced or best, in place of sampler and steps")] = None,
    best_of: Annotated[
        int | None, typer.Option(help="draw this many of each class, keep the n with the best score")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="default: random")] = None,
    model: Annotated[str | None, typer.Option(help="NAME, NAME@NUMBER or NAME@sha256:...")] = None,
    also: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: any other setting of POST /generate")
    ] = None,
    url: Url = None,
) -> None:
    """Draw images with a running service and write them to a file."""
    from darkroom.app.cli.generate import generate_to_file, request_settings

    options = {
        "guidance": guidance,
        "steps": steps,
        "sampler": sampler,
        "threshold": threshold,
        "percentile": percentile,
        "quality": quality,
        "best_of": best_of,
        "seed": seed,
        "model": model,
    }
    named = {name: value for name, value in options.items() if value is not None}
    asked = {"class": classes, "n": n} | named | request_settings(also or [], named)
    raise typer.Exit(generate_to_file(url, asked, out))


def main() -> None:
    """Entry point of the `darkroom` command."""
    cli()
