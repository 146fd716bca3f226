"""Laws of `import darkroom`: light, whatever files lie beside the caller, and complete in a wheel."""

import subprocess
import sys
import tomllib
from pathlib import Path

import darkroom
from tests.processes import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]


def _python(code: str, folder: Path) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_users_own_files_of_the_same_names_take_no_modules_place(tmp_path: Path) -> None:
    for name in ("app", "model", "store", "telemetry", "worker", "training", "data"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('imported {name}.py of the user')")
    code = """
import darkroom
model = darkroom.load("fashion-mnist", device="cpu")
print(len(model.generate("Sneaker", n=2, seed=7)), darkroom.train.__name__, darkroom.evaluate.__name__)
import darkroom.app.cli.main
"""
    assert _python(code, tmp_path).split() == ["2", "train", "evaluate"]


def test_the_import_alone_loads_neither_torch_nor_anything_of_the_service(tmp_path: Path) -> None:
    code = "import darkroom, sys; dir(darkroom); print(*sys.modules)"
    loaded = set(_python(code, tmp_path).split())
    assert "darkroom" in loaded
    assert {name for name in loaded if name.split(".")[0] in ("torch", "numpy", "pydantic")} == set()
    assert {name for name in loaded if name.startswith("darkroom.")} == set()


def test_load_train_and_evaluate_need_nothing_of_the_service(tmp_path: Path) -> None:
    code = "import darkroom, sys; darkroom.load, darkroom.train, darkroom.evaluate; print(*sys.modules)"
    loaded = set(_python(code, tmp_path).split())
    rooms = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("darkroom.")}
    assert "darkroom.model" in rooms
    assert rooms.isdisjoint({"darkroom.app", "darkroom.store", "darkroom.worker", "darkroom.telemetry"})


def test_every_public_name_is_there_and_others_are_not() -> None:
    assert {"load", "train", "evaluate"} <= set(darkroom.__all__) <= set(dir(darkroom))
    assert all(getattr(darkroom, name).__doc__ for name in darkroom.__all__)
    assert not hasattr(darkroom, "laod")


def test_weights_recipes_and_the_mark_of_types_are_package_data() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["darkroom"]
    package = ROOT / "darkroom"
    found = {str(path.relative_to(package)) for pattern in patterns for path in package.glob(pattern)}
    recipes = {f"recipes/{path.name}" for path in (ROOT / "recipes").glob("*.yaml")}
    weights = {f"weights/{path.name}" for path in (ROOT / "weights").glob("*.safetensors")}
    assert found == {"py.typed"} | recipes | weights
    assert recipes
    assert weights


def test_every_file_of_data_beside_the_code_is_package_data() -> None:
    """A wheel leaves out what no pattern names, and the code then fails where it reads the file."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {
        path
        for package, patterns in declared.items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    rooms = [ROOT / "darkroom" / room for room in ("app", "model", "store", "telemetry", "worker")]
    data = {path for room in rooms for path in room.rglob("*.json") if path.name != "deno.json"}  # for lint alone
    assert len(data) >= 2
    assert data <= packed
