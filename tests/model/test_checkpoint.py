"""Weights files: reading returns what was written, and refuses damaged and foreign files."""

import contextlib
import errno
import hashlib
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from darkroom.model.checkpoint import (
    CheckpointError,
    CheckpointHeader,
    SnapshotHeader,
    decode_checkpoint,
    encode_checkpoint,
    header_end,
    load_checkpoint,
    read_header,
    read_metadata,
    write_atomically,
)
from darkroom.model.config import ModelConfig, SamplingConfig, ScheduleConfig, UNetConfig
from darkroom.model.diffusion.network import place
from darkroom.model.diffusion.unet import UNet
from darkroom.model.digest import digest_of
from darkroom.model.training.trainer import Trainer
from tests.model.small import CLASS_NAMES, awaken, random_dataset, small_model, small_recipe, small_unet

MODEL = small_model()
HEADER = CheckpointHeader(
    name="small",
    model=MODEL,
    sampling=SamplingConfig(steps=3, guidance=2.0),
    class_names=CLASS_NAMES,
    images_seen=123,
    dataset_digest="sha256:abc",
    metrics={"fid": 12.5},
    recipe=small_recipe(),
)


def network() -> UNet:
    unet = UNet(MODEL, len(CLASS_NAMES))
    awaken(unet)
    return unet.eval()


def encoded() -> bytes:
    return encode_checkpoint(HEADER, network().state_dict())


DATA = encoded()
FIGURE = {"metric": "fid-x", "value": 1.5, "protocol": {"steps": 20}}

HEADER_END = 8 + int.from_bytes(DATA[:8], "little")


def with_header(change: dict[str, object]) -> bytes:
    """Return a well-formed safetensors file with changes in its Darkroom header."""
    header = json.loads(HEADER.model_dump_json()) | change
    return save(dict(network().state_dict()), metadata={"darkroom": json.dumps(header)})


def test_what_goes_in_comes_out() -> None:
    checkpoint = decode_checkpoint(DATA, source="here")
    assert checkpoint.header == HEADER
    weights = network().state_dict()
    assert set(checkpoint.weights) == set(weights)
    assert all(torch.equal(checkpoint.weights[name], value) for name, value in weights.items())
    assert checkpoint.digest == "sha256:" + hashlib.sha256(DATA).hexdigest() == digest_of(DATA)
    assert encode_checkpoint(checkpoint.header, checkpoint.weights) == DATA


SNAPSHOT_UNET = small_unet(width=8)


def _with_network(unet: UNetConfig | None) -> ModelConfig:
    return MODEL if unet is None else MODEL.model_copy(update={"unet": unet})


def carrying(unet: UNetConfig | None = None) -> bytes:
    """Return the small weights file with a second network as its snapshot."""
    snapshot = UNet(_with_network(unet), len(CLASS_NAMES))
    awaken(snapshot, seed=1)
    header = HEADER.model_copy(update={"snapshot": SnapshotHeader(images_seen=50, unet=unet)})
    return encode_checkpoint(header, network().state_dict(), snapshot.state_dict())


@pytest.mark.parametrize("unet", [None, SNAPSHOT_UNET], ids=["same", "smaller"])
def test_a_snapshot_is_carried_beside_weights_that_stay_as_they_are(unet: UNetConfig | None) -> None:
    checkpoint = decode_checkpoint(carrying(unet), source="here")
    assert checkpoint.header.snapshot == SnapshotHeader(images_seen=50, unet=unet)
    assert checkpoint.header.model_copy(update={"snapshot": None}) == HEADER
    weights = network().state_dict()
    assert checkpoint.weights.keys() == weights.keys()
    assert all(torch.equal(checkpoint.weights[name], value) for name, value in weights.items())
    assert checkpoint.snapshot is not None
    assert encode_checkpoint(checkpoint.header, checkpoint.weights, checkpoint.snapshot) == carrying(unet)

    expected = UNet(_with_network(unet), len(CLASS_NAMES))
    awaken(expected, seed=1)
    denoiser = checkpoint.denoiser()
    assert denoiser.snapshot is not None
    x, t, labels = torch.randn(3, 1, 8, 8), torch.tensor([1, 500, 1000]), torch.tensor([0, 2, 3])
    torch.testing.assert_close(denoiser.snapshot(x, t, labels), expected.eval()(x, t, labels), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(denoiser.network(x, t, labels), network()(x, t, labels), rtol=1e-4, atol=1e-5)


def test_a_snapshot_is_never_lost_on_the_way() -> None:
    checkpoint = decode_checkpoint(carrying(), source="here")
    with pytest.raises(ValueError, match="must be given together"):
        encode_checkpoint(checkpoint.header, checkpoint.weights)
    with pytest.raises(ValueError, match="must be given together"):
        encode_checkpoint(HEADER, checkpoint.weights, checkpoint.snapshot)
    lying = decode_checkpoint(with_header({"snapshot": {"images_seen": 50}}), source="lying")
    with pytest.raises(CheckpointError, match="do not fit"):
        lying.denoiser()


def test_a_file_without_a_snapshot_cannot_name_it_as_its_default_guide() -> None:
    sampling = HEADER.sampling.model_copy(update={"guide": "snapshot"}).model_dump()
    with pytest.raises(CheckpointError, match="carries no snapshot"):
        decode_checkpoint(with_header({"sampling": sampling}), source="lying")


def test_the_denoiser_is_the_network_that_was_saved() -> None:
    denoiser = decode_checkpoint(DATA, source="here").denoiser()
    x, t, labels = torch.randn(3, 1, 8, 8), torch.tensor([1, 500, 1000]), torch.tensor([0, 2, 3])
    torch.testing.assert_close(denoiser.network(x, t, labels), network()(x, t, labels), rtol=1e-4, atol=1e-5)
    assert denoiser.class_names == CLASS_NAMES
    assert denoiser.config == MODEL


def test_the_header_alone_rebuilds_everything() -> None:
    """Any safetensors reader finds JSON text with every field of the configuration."""
    metadata = json.loads(DATA[8:HEADER_END])["__metadata__"]
    header = json.loads(metadata["darkroom"])
    assert header["class_names"] == list(CLASS_NAMES)
    assert header["images_seen"] == 123
    assert header["metrics"] == {"fid": 12.5}
    for section, config in (("model", MODEL), ("sampling", HEADER.sampling), ("recipe", HEADER.recipe)):
        assert config is not None
        assert header[section].keys() == type(config).model_fields.keys()
    assert header["model"]["unet"].keys() == type(MODEL.unet).model_fields.keys()
    assert ModelConfig.model_validate(header["model"]) == MODEL


def test_files_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "weights.safetensors"
    write_atomically(path, DATA)
    assert load_checkpoint(path).header == HEADER
    write_atomically(path, b"other")
    assert path.read_bytes() == b"other"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_on_a_full_disk_the_old_content_stays_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    write_atomically(path, DATA)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_atomically(path, b"other")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {path.name: DATA}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.safetensors: No such file"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, HEADER_END - 1, HEADER_END, len(DATA) - 1])
def test_truncated_files_are_refused(length: int) -> None:
    with pytest.raises(CheckpointError, match=r"^cut\.safetensors: "):
        decode_checkpoint(DATA[:length], source="cut.safetensors")


@settings(deadline=None, max_examples=200)
@given(st.integers(0, HEADER_END - 1), st.integers(1, 255))
def test_a_damaged_header_is_refused_or_harmless(position: int, flip: int) -> None:
    """After a change of any byte, reading raises CheckpointError or returns a valid header."""
    damaged = bytearray(DATA)
    damaged[position] ^= flip
    with contextlib.suppress(CheckpointError):
        decode_checkpoint(bytes(damaged), source="damaged").denoiser()


def test_the_header_is_read_from_the_beginning_alone() -> None:
    assert header_end(DATA[:8]) == HEADER_END
    assert read_header(DATA[:HEADER_END], source="beginning") == HEADER
    for length in (0, 7, 8, HEADER_END - 1):
        with pytest.raises(CheckpointError, match=r"^cut: not a readable safetensors file: its header is cut off"):
            read_header(DATA[:length], source="cut")


@settings(deadline=None, max_examples=200)
@given(st.integers(0, HEADER_END - 1), st.integers(1, 255))
def test_a_damaged_header_that_is_read_alone_is_refused_or_is_that_of_the_whole(position: int, flip: int) -> None:
    damaged = bytearray(DATA)
    damaged[position] ^= flip
    try:
        whole = decode_checkpoint(bytes(damaged), source="damaged").header
    except CheckpointError:
        whole = None
    try:
        alone = read_header(bytes(damaged[:HEADER_END]), source="damaged")
    except CheckpointError:
        assert whole is None
    else:
        assert whole in (None, alone)  # the tensors' positions may still be wrong


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b'{"__metadata__": [1]}', b"[" * 100_000, b"\xff", b'{"a": 1'])
def test_a_header_of_another_form_is_refused(text: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"^made: not a readable safetensors file: its header is "):
        read_metadata(len(text).to_bytes(8, "little") + text, source="made")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format_version": 2}, "format_version"),
        ({"class_names": []}, "class_names"),
        ({"images_seen": -1}, "images_seen"),
        ({"model": {"unet": {"widht": 3}}}, r"model\.unet\.widht"),
        ({"surprise": 1}, "surprise"),
        ({"evaluations": [FIGURE | {"surprise": 1}]}, r"evaluations\.0\.surprise"),
        ({"evaluations": [FIGURE | {"value": math.nan}]}, r"evaluations\.0\.value"),
        ({"evaluations": [FIGURE | {"protocol": {"eta": math.inf}}]}, r"evaluations\.0\.protocol\.eta"),
        ({"evaluations": [FIGURE | {"protocol": {"eta": [0.0]}}]}, r"evaluations\.0\.protocol\.eta"),
    ],
)
def test_an_invalid_header_is_refused_by_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(CheckpointError, match=rf"bad: invalid header: .*{field}"):
        decode_checkpoint(with_header(change), source="bad")


def test_weights_of_another_network_are_refused() -> None:
    wider = json.loads(small_model(width=32).model_dump_json())
    checkpoint = decode_checkpoint(with_header({"model": wider}), source="other")
    with pytest.raises(CheckpointError, match="do not fit"):
        checkpoint.denoiser()


def test_a_header_that_claims_a_giant_costs_no_memory() -> None:
    """The network in the header would need terabytes; its shapes are enough to refuse it."""
    unet = {"width": 2048, "multipliers": [64] * 8, "attention_resolutions": []}
    giant = json.loads(ModelConfig.model_validate({"image_size": 1024, "unet": unet}).model_dump_json())
    checkpoint = decode_checkpoint(with_header({"model": giant}), source="giant")
    with pytest.raises(CheckpointError, match="do not fit"):
        checkpoint.denoiser()


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"darkroom": "not JSON"}])
def test_foreign_safetensors_are_refused(metadata: dict[str, str] | None) -> None:
    with pytest.raises(CheckpointError, match=r"^foreign: "):
        decode_checkpoint(save({"w": torch.zeros(2)}, metadata=metadata), source="foreign")


def raw_safetensors(header: object, payload: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


@pytest.mark.parametrize(
    "header",
    [
        [],
        None,
        {"__metadata__": None, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"__metadata__": [1], "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]}},
        {"w": {"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
    ],
    ids=str,
)
def test_hand_made_files_are_refused(header: object) -> None:
    with pytest.raises(CheckpointError, match=r"^made: "):
        decode_checkpoint(raw_safetensors(header, b"\0" * 4), source="made")


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"w": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_checkpoint(path)


def test_damage_in_the_weights_changes_the_digest() -> None:
    damaged = bytearray(DATA)
    damaged[-1] ^= 1
    assert decode_checkpoint(bytes(damaged), source="damaged").digest != digest_of(DATA)


def test_any_layout_of_the_weights_encodes_alike() -> None:
    weights = place(network(), torch.device("cpu")).state_dict()
    assert any(not value.is_contiguous() for value in weights.values())
    assert encode_checkpoint(HEADER, weights) == DATA
    assert np.isfinite([float(value.sum()) for value in weights.values()]).all()


def test_a_file_of_fewer_steps_from_before_times_were_scaled_draws_what_it_drew() -> None:
    """Such a header has no embedding_steps."""
    model = small_model(schedule=ScheduleConfig(steps=50), prediction="v")
    header = HEADER.model_copy(update={"model": model, "recipe": None})
    written = json.loads(header.model_dump_json())
    del written["embedding_steps"]
    data = save(network().state_dict(), metadata={"darkroom": json.dumps(written)})
    before = decode_checkpoint(data, source="before")
    now = header.model_copy(update={"embedding_steps": 50})
    after = decode_checkpoint(encode_checkpoint(now, network().state_dict()), source="after")
    x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([5, 50]), torch.tensor([0, 1])
    torch.testing.assert_close(before.denoiser().network(x, t, labels), network()(x, t, labels))
    torch.testing.assert_close(after.denoiser().network(x, t, labels), network()(x, 20 * t, labels))
    recipe = small_recipe(model__schedule__steps=50, model__unet=small_unet().model_dump(), model__prediction="v")
    trainer = Trainer(recipe, random_dataset(), torch.device("cpu"))
    with pytest.raises(CheckpointError, match=r"before: is of an earlier version.*begin from new weights"):
        trainer.start_from(data, source="before")
    trainer.start_from(encode_checkpoint(after.header, after.weights), source="after")
    assert decode_checkpoint(trainer.checkpoint(), source="trained").header.embedding_steps == 50


def test_a_file_names_the_classes_without_training_images() -> None:
    whole = random_dataset()
    kept = whole.labels != 1
    lacking = replace(whole, images=whole.images[kept], labels=whole.labels[kept])
    for dataset, undrawn in ((whole, ()), (lacking, (1,))):
        data = Trainer(small_recipe(), dataset, torch.device("cpu")).checkpoint()
        assert decode_checkpoint(data, source="test").header.undrawn == undrawn
        assert ("undrawn" in read_metadata(data, source="test")["darkroom"]) == bool(undrawn)
