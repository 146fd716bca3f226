import collections
import pickle
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.datasets.dataset import DatasetError
from model.datasets.plain_pickle import read_plain_dict

_SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), _VALUES), st.integers(0, 4))
def test_plain_data_reads_as_what_was_written(data: dict[str, object], protocol: int) -> None:
    assert read_plain_dict(pickle.dumps(data, protocol=protocol), "file") == data


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["u1", "<i2", ">i4", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_integer_arrays_read_as_what_was_written(protocol: int, kind: str, order: str) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4) % 100, dtype=kind, order="F" if order == "F" else "C")
    read = read_plain_dict(pickle.dumps({"first": array, "again": array}, protocol=protocol), "file")
    for value in read.values():
        assert isinstance(value, np.ndarray)
        np.testing.assert_array_equal(value, array)


def test_the_strings_of_python_2_are_bytes() -> None:
    # As Python 2 wrote them: in protocol 0, and in 1 and 2.
    assert read_plain_dict(b"(dp1\nS'data'\np2\nS'cat'\ns.", "file") == {"data": b"cat"}
    assert read_plain_dict(b"\x80\x02}U\x04dataT\x02\x00\x00\x00\xff\x00s.", "file") == {"data": b"\xff\x00"}


@pytest.mark.parametrize(
    ("value", "opcode"),
    [
        (Fraction(1, 2), "GLOBAL"),
        (collections.OrderedDict(), "GLOBAL"),
        (print, "GLOBAL"),
        ({1, 2}, "GLOBAL"),
        (np.zeros(2, dtype=np.float64), "REDUCE"),
        (np.array([None]), "REDUCE"),
    ],
)
def test_anything_else_is_refused_by_its_opcode(value: object, opcode: str) -> None:
    with pytest.raises(DatasetError, match=f"^file: refused at pickle opcode {opcode}: "):
        read_plain_dict(pickle.dumps({"value": value}, protocol=2), "file")
    with pytest.raises(DatasetError, match=r"^file: refused at pickle opcode"):
        read_plain_dict(pickle.dumps({"value": value}, protocol=4), "file")


@pytest.mark.parametrize(
    ("content", "opcode"),
    [
        (b"(S'id'\nios\nsystem\n.", "INST"),
        (b"(cos\nsystem\nS'id'\no.", "GLOBAL"),
        (b"\x80\x02Pid\n.", "PERSID"),
        (b"\x80\x02)\x81.", "NEWOBJ"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "STACK_GLOBAL"),
        (b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "BYTEARRAY8"),
        (b"\x80\x02s.", "SETITEM"),
        (b"\x80\x02}u.", "SETITEMS"),
        (b"\x80\x02h\x05.", "BINGET"),
        (b"\x80\x02}K\x01K\x02R.", "REDUCE"),
        (b"\x80\x02}}b.", "BUILD"),
        (b"\x80\x02}]K\x01s.", "SETITEM"),
        (b"\x80\x02K\x01.", "STOP"),
        (b"\x80\x02(.", "STOP"),
        (b".", "STOP"),
        (b"", "start"),
        (b"\xff", "start"),
    ],
)
def test_hostile_and_broken_streams_are_refused(content: bytes, opcode: str) -> None:
    with pytest.raises(DatasetError, match=f"refused at pickle opcode {opcode}: "):
        read_plain_dict(content, "file")


def test_every_truncation_is_an_error() -> None:
    whole = pickle.dumps({"data": np.zeros((2, 3), np.uint8), "labels": [1, 2], "name": "x"}, protocol=2)
    for length in range(len(whole)):
        with pytest.raises(DatasetError):
            read_plain_dict(whole[:length], "file")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_an_error_or_harmless_never_another_exception(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps({"data": np.zeros((2, 3), np.uint8), "labels": [1, 2]}, protocol=2))
    for position in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        whole[position] = data.draw(st.integers(0, 255))
    try:
        read = read_plain_dict(bytes(whole), "file")
    except DatasetError as error:
        fault = str(error)
    else:
        assert isinstance(read, dict)
        return
    assert fault.startswith("file: ")


def test_a_short_stream_cannot_grow_without_bound() -> None:
    text = b"a" * 1000
    content = b"c_codecs\nencode\nq\x02X" + struct.pack("<I", len(text)) + text + b"q\x00X\x06\x00\x00\x00latin1q\x01"
    with pytest.raises(DatasetError, match="encodes more bytes than the file has"):
        read_plain_dict(content + b"h\x02(h\x00h\x01tR" * 20 + b"}.", "file")
