"""Laws of optional packages: a missing or broken one is an error of one sentence that says what to run."""

import sys
from pathlib import Path

import pytest

from darkroom.model.extras import NETWORKS, import_extra, lacking
from darkroom.model.metrics.extractor import MetricsUnavailable

CURE = "run `.venv/bin/python -m pip install -c constraints.txt -e '.[inception]'` in Darkroom's folder"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_torchvision", "broken_extra needs no_such_torchvision, which is not installed"),
        ("raise ImportError('undefined symbol: x\\nmore')", "installed but broken (undefined symbol: x)"),
        ("raise OSError('libcudart.so: cannot open')", "installed but broken (libcudart.so: cannot open)"),
        (
            "raise RuntimeError('operator vision::nms does not exist')",
            "(operator vision::nms does not exist)",
        ),
        ("import sys; sys.no_such_thing", "installed but broken (module 'sys' has no attribute 'no_such_thing')"),
    ],
)
def test_a_broken_package_is_one_sentence_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    (tmp_path / "broken_extra").mkdir()
    (tmp_path / "broken_extra" / "__init__.py").write_text("")
    (tmp_path / "broken_extra" / "part.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(MetricsUnavailable) as refused:
            import_extra("broken_extra.part", "inception", MetricsUnavailable)
    finally:
        sys.modules.pop("broken_extra", None)
    said = str(refused.value)
    assert reason in said
    assert said.endswith(f": {CURE}")
    assert "\n" not in said


def test_an_installation_says_which_networks_it_lacks_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, variable = tmp_path / "weights.pth", NETWORKS["inception"].variable
    monkeypatch.delenv(variable, raising=False)
    assert lacking()["inception"] == f"{variable} is not set"
    monkeypatch.setenv(variable, str(weights))
    assert lacking()["inception"] == f"{variable} is {weights}, and there is no such file"
    weights.write_bytes(b"weights")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    assert lacking()["inception"] == "the package torch_fidelity is not installed"
    (tmp_path / "torch_fidelity.py").write_text("raise RuntimeError('it must not be imported')")
    monkeypatch.delitem(sys.modules, "torch_fidelity")
    monkeypatch.syspath_prepend(tmp_path)
    assert "inception" not in lacking()


def test_a_missing_package_is_one_sentence_with_the_cure() -> None:
    with pytest.raises(MetricsUnavailable) as refused:
        import_extra("no_such_extra.part", "inception", MetricsUnavailable)
    assert str(refused.value) == f"no_such_extra is not installed: {CURE}"
