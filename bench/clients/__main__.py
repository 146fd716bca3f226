"""Generates clients from the OpenAPI document, and uses them against a service of its own: `make clients`.

python -m bench.clients [--environment .clients]

openapi-python-client and openapi-generator (python, typescript-fetch) make clients, which upload a data set, draw a PNG
and read event streams. datamodel-codegen makes models, which must read an answer of the service.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.first_walk import darkroom
from darkroom.app.main import create_app
from darkroom.app.settings import Settings
from tests.app.console.stock import archive
from tests.processes import free_port

HERE = Path(__file__).parent


def _run(folder: Path, *command: object) -> None:
    """Run a command in the folder, where Python finds the generated packages. Ends this process if it fails."""
    print("$", *command, flush=True)
    found = {"PYTHONPATH": (folder, folder / "python"), "PATH": (Path(str(command[0])).parent, os.environ["PATH"])}
    environment = os.environ | {name: os.pathsep.join(map(str, places)) for name, places in found.items()}
    try:
        subprocess.run(list(map(str, command)), cwd=folder, env=environment, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as failed:
        raise SystemExit(f"{failed.stdout}{failed.stderr}") from failed


def generate(environment: Path, folder: Path) -> None:
    """Write the document into the folder, and what the generators make of it. environment: with the generators."""
    programs, document = environment / "bin", folder / "openapi.json"
    document.write_text(json.dumps(create_app(Settings(device="cpu")).openapi()))
    clients = folder / "darkroom_client"
    config = HERE / "openapi_python_client.yaml"
    made = [programs / "openapi-python-client", "generate", "--path", document, "--output-path", clients]
    _run(folder, *made, "--meta", "none", "--config", config)
    models = folder / "darkroom_models.py"
    kinds = ("--input-file-type", "openapi", "--output-model-type", "pydantic_v2.BaseModel")
    _run(folder, programs / "datamodel-codegen", "--input", document, "--output", models, *kinds)
    java = [programs / "openapi-generator-cli", "generate", "-i", document]
    _run(folder, *java, "-g", "python", "-o", folder / "python")
    forms = ("--global-property", "skipFormModel=false")  # else it imports models of forms that it does not write
    _run(folder, *java, "-g", "typescript-fetch", "-o", folder / "typescript" / "generated", *forms)
    shutil.copy(HERE / "use_typescript_fetch.ts", folder / "typescript" / "use.ts")
    options = ("--target", "es2022", "--module", "commonjs", "--esModuleInterop", "--skipLibCheck", "--strict")
    types = ("--typeRoots", environment / "node_modules" / "@types", "--types", "node")
    compiled = folder / "compiled"
    compiler = environment / "node_modules" / ".bin" / "tsc"
    _run(folder, compiler, *options, *types, "--outDir", compiled, folder / "typescript" / "use.ts")


def use(environment: Path, folder: Path, url: str) -> None:
    """Upload, draw and read events with each client, and read an answer with the models."""
    pictures = folder / "pictures.zip"
    pictures.write_bytes(archive(["circle", "square"]))
    for program in ("use_models.py", "use_openapi_python_client.py", "use_openapi_generator.py"):
        _run(folder, environment / "bin" / "python", HERE / program, url, pictures)
    _run(folder, "node", folder / "compiled" / "use.js", url, pictures)


def main(argv: Sequence[str] | None = None) -> None:
    """Generate and use all clients; a fault ends with its traceback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=Path(".clients"), help="what `make clients` installed")
    environment = parser.parse_args(argv).environment.absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(environment, folder)
        with darkroom(folder / "state", free_port()) as url:
            use(environment, folder, url)
    print("every client was generated, and works")


if __name__ == "__main__":
    main()
