"""Damaged files of every kind are read or refused, within limits of memory and time; `make soak` tries many more."""

from pathlib import Path

import pytest

from darkroom.model.datasets import DatasetError
from tests import fuzzing
from tests.fuzzing import Parser, TooSlow, limited, parsers, tried

INPUTS = 200


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parser]:
    return parsers(tmp_path_factory.mktemp("inputs"))


def test_every_parser_reads_or_refuses_every_input(found: dict[str, Parser]) -> None:
    with limited():
        for name, parser in found.items():
            assert tried(parser, parser.pack(parser.parts)) == "read", name
            ends = {tried(parser, parser.input(f"0 {name} {number}")) for number in range(INPUTS)}
            assert ends == {"read", "refused"}, name


def test_a_fault_is_not_taken_for_a_refusal() -> None:
    def parser(error: type[Exception]) -> Parser:
        def parse(content: bytes) -> None:
            raise error

        return Parser({"a": b"x"}, lambda parts: parts["a"], parse, (DatasetError,))

    assert tried(parser(DatasetError), b"") == "refused"
    for fault in (ValueError, MemoryError, RecursionError):
        with pytest.raises(fault):
            tried(parser(fault), b"")


def test_memory_and_time_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "CPU_SECONDS", 0.05)

    def endless(content: bytes) -> None:
        while True:
            pass

    with limited(), pytest.raises(MemoryError):
        bytearray(8 << 30)
    with limited(), pytest.raises(TooSlow):
        tried(Parser({}, lambda parts: b"", endless, ()), b"")


def test_inputs_depend_on_their_seed_alone(found: dict[str, Parser], tmp_path: Path) -> None:
    again = parsers(tmp_path)
    for name, parser in found.items():
        one, other = (parser.input(f"{seed} {name}") for seed in (1, 2))
        assert one == again[name].input(f"1 {name}")
        assert one != other
