"""Laws of `darkroom generate`: it writes the requested file, or prints one clear line and leaves no file."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from darkroom.app.cli.main import cli
from darkroom.model.config import SamplingConfig
from tests.app.cli.calls import Run, refused
from tests.app.served import SIDE, Service, cut_grid, picture, pixels_of, zip_images


@pytest.fixture
def run(service: Service) -> Run:
    """Run the command against the tests' service."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, ["generate", "--url", service.url, *map(str, arguments)])

    return run


def test_every_suffix_gives_the_images_that_the_service_draws(service: Service, run: Run, tmp_path: Path) -> None:
    expected = pixels_of(service.generate(**{"class": [1, "größe"], "n": 2, "seed": 5, "steps": 3, "guidance": 1.5}))
    for suffix in ("png", "webp", "zip", "npz", "json"):
        out = tmp_path / f"images.{suffix}"
        result = run("one", "Größe", "--n", 2, "--seed", 5, "--steps", 3, "--guidance", 1.5, "--out", out)
        assert result.exit_code == 0, result.output
        assert re.search(r"4 images by tiny sha256:[0-9a-f]{12}, seed 5, ddim 3 steps, guidance 1.5", result.output)
        if suffix in ("png", "webp"):
            found = cut_grid(picture(out.read_bytes()), 4, 2)[..., :1]
        elif suffix == "zip":
            found = zip_images(out.read_bytes())[0]
        elif suffix == "npz":
            with np.load(out, allow_pickle=False) as arrays:
                found = arrays["images"]
        else:
            found = pixels_of(json.loads(out.read_text()))
        assert np.abs(found.astype(int) - expected).max() <= 1  # rows batched with other rows may differ by one level


def test_a_class_can_be_an_index_and_the_random_seed_is_printed(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "one.png"
    result = run(2, "--out", out)
    assert result.exit_code == 0, result.output
    assert Image.open(out).size == (SIDE, SIDE)
    seed = re.search(r"seed (\d+)", result.output)
    assert seed
    again = tmp_path / "again.png"
    assert run("T-shirt/top", "--seed", seed[1], "--out", again).exit_code == 0
    np.testing.assert_array_equal(picture(again.read_bytes()), picture(out.read_bytes()))


def test_a_refusal_prints_the_service_s_message_and_leaves_no_file(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "none.png"
    refused(run("[bold]", "--out", out), "'[bold]'", "T-shirt/top")
    refused(run("one", "--n", 0, "--out", out), "/n")
    refused(run("one", "--sampler", "euler", "--out", out), "/sampler")
    refused(run("one", "--model", "nobody", "--out", out), "nobody")
    refused(run("one", "--guidance", "nan", "--out", out), "finite")
    assert list(tmp_path.iterdir()) == []


def test_any_setting_of_a_request_can_be_set(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "one.json"
    asked = {"sampler": "ddim", "eta": 0.5, "variance": "beta", "spacing": "edm", "guidance_interval": [0.2, 3.0]}
    asked |= {"percentile": 0.9, "first_index": 2, "n": 2, "seed": 2**63 - 1}
    result = run("one", *(f"--set={name}={value}" for name, value in asked.items()), "--out", out)
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text()).items() >= asked.items()


def test_an_unknown_setting_is_refused_with_the_known_ones(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "none.png"
    refused(run("one", "--set", "colour=red", "--out", out), "colour", "choose from", *SamplingConfig.model_fields)
    refused(run("one", "--set", "stream=false", "--out", out), "stream", "best_of, deadline_seconds")
    refused(run("one", "--set", "percentile=2", "--out", out), "--set percentile", "less than or equal to 1")
    refused(run("one", "--set", "steps=[1]", "--set", "eta=x", "--out", out), "--set steps", "--set eta")
    refused(run("one", "--set", "percentile", "--out", out), "percentile", "NAME=VALUE")
    refused(run("one", "--steps", "6", "--set", "steps=5", "--out", out), "--set steps=5", "set twice")
    refused(run("one", "--set", "eta=0.5", "--set", "eta=0.7", "--out", out), "--set eta=0.7", "set twice")
    assert list(tmp_path.iterdir()) == []


def test_the_best_are_written_in_their_order_with_their_scores(service: Service, run: Run, tmp_path: Path) -> None:
    expected = service.generate(**{"class": [0, 1], "n": 2, "best_of": 6, "seed": 4})
    of_each = expected["indices"][:2], expected["indices"][2:]
    assert any(indices != sorted(indices) for indices in of_each), "by chance the best are in the order of rows"
    out = tmp_path / "best.json"
    result = run(0, 1, "--n", 2, "--best-of", 6, "--seed", 4, "--out", out)
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert [image["index"] for image in written["images"]] == written["indices"] == expected["indices"]
    assert [image["score"] for image in written["images"]] == written["scores"]


def test_a_file_that_cannot_be_written_is_found_before_drawing(service: Service, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    drawn = service.gauge("darkroom_row_steps_total")
    refused(run("one", "--out", tmp_path / "images.gif"), "png, webp, zip, npz, json")
    refused(run("one", "--out", tmp_path / "file" / "images.png"), "file")
    refused(run("one", "--out", tmp_path / "mistyped" / "images.png"), "mistyped: there is no such folder")
    assert not (tmp_path / "mistyped").exists()
    refused(run("one", "--out", tmp_path / "folder.png"), "folder.png: is a folder")
    refused(run("one", "--out", "/proc/images.png"), "/proc")  # not even root can create a file there
    assert service.gauge("darkroom_row_steps_total") == drawn


def test_the_error_without_a_service_names_its_url(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "none.png"
    refused(run("one", "--out", out, "--url", "http://127.0.0.1:1"), "http://127.0.0.1:1", "make up")
    refused(run("one", "--out", out, "--url", "http://[::"), "not a URL", "--url")
    assert not out.exists()


class _Silent(BaseHTTPRequestHandler):
    """Answers 501 to POST, and does not log, because the test reads stderr."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_an_answer_from_another_server_is_an_error(run: Run, tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), _Silent) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            result = run("one", "--out", tmp_path / "none.png", "--url", f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
    refused(result, "HTTP 501 from something that is not Darkroom")
