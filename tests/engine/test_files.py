"""Files, manifests, JSON and safetensors headers: everything that is refused before it is believed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from detectors.engine import checkpoint, files
from detectors.errors import (
    BrokenWeightsError,
    IncompleteModelError,
    ModelReferenceError,
    UnsafeFileError,
    UnsupportedModelError,
)


def write_safetensors(file: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return file


def entry(dtype: str = "F32", shape: tuple[int, ...] = (2,), offsets: tuple[int, int] = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_manifest_lists_every_visible_file_sorted_with_size_and_digest(model: Path) -> None:
    (model / ".git").mkdir()
    (model / ".git" / "config").write_text("hidden")
    (model / "notes").mkdir()
    (model / "notes" / "a.txt").write_text("abc")
    manifest = files.read_manifest(files.list_files(model))
    assert [item.path for item in manifest] == sorted(item.path for item in manifest)
    note = next(item for item in manifest if item.path == "notes/a.txt")
    assert (note.size, note.sha256[:8]) == (3, "ba7816bf")
    assert not any(".git" in item.path for item in manifest)


def test_file_digest_sees_names_and_contents(model: Path) -> None:
    def digest() -> str:
        return files.file_digest(files.read_manifest(files.list_files(model)))

    first = digest()
    assert digest() == first
    (model / "README.md").write_text("x")
    second = digest()
    (model / "README.md").rename(model / "README.txt")
    assert len({first, second, digest()}) == 3


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelReferenceError, match="nowhere' does not exist; give the path"):
        files.find_directory(tmp_path / "nowhere")


def test_file_instead_of_directory(model: Path) -> None:
    with pytest.raises(ModelReferenceError, match=r"config\.json' is a file.*give the directory"):
        files.find_directory(model / "config.json")


def test_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelReferenceError, match="is empty; give a directory"):
        files.list_files(tmp_path)


def test_link_that_leaves_the_directory(model: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (model / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeFileError, match=r"notes\.txt' is a link that leaves the model directory, to .*secret"):
        files.list_files(model)


def test_link_that_stays_inside_is_followed(model: Path) -> None:
    (model / "copy.json").symlink_to("config.json")
    assert files.list_files(model)["copy.json"] == (model / "config.json").resolve()


def test_link_to_a_directory(model: Path) -> None:
    (model / "loop").symlink_to(model)
    with pytest.raises(UnsafeFileError, match="loop' is a link to something other than a file"):
        files.list_files(model)


def test_link_to_nothing(model: Path) -> None:
    (model / "extra.json").symlink_to("gone.json")
    with pytest.raises(IncompleteModelError, match=r"extra\.json' is a link to a missing file"):
        files.list_files(model)


def test_pipe(model: Path) -> None:
    os.mkfifo(model / "pipe")
    with pytest.raises(UnsafeFileError, match="pipe' is a device, pipe or socket"):
        files.list_files(model)


def test_too_many_files(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 3)
    with pytest.raises(UnsafeFileError, match="more than 3 files"):
        files.list_files(model)


def hub_cache(model: Path, cache: Path) -> Path:
    """The model in the layout of a Hugging Face cache; returns the snapshot."""
    blobs, snapshot = cache / "models--org--tiny" / "blobs", cache / "models--org--tiny" / "snapshots" / "abc123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(model.iterdir())):
        shutil.copy(file, blobs / f"{number:040x}")
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", f"{number:040x}"))
    return snapshot


def test_hub_cache_layout_is_accepted(model: Path, tmp_path: Path) -> None:
    snapshot = hub_cache(model, tmp_path / "cache")
    linked, plain = (files.read_manifest(files.list_files(place)) for place in (snapshot, model))
    assert linked == plain


def test_hub_cache_of_another_model_is_not(model: Path, tmp_path: Path) -> None:
    snapshot = hub_cache(model, tmp_path / "cache")
    other = tmp_path / "cache" / "models--org--other" / "blobs"
    other.mkdir(parents=True)
    (other / ("0" * 40)).write_text("{}")
    (snapshot / "x.json").symlink_to(other / ("0" * 40))
    with pytest.raises(UnsafeFileError, match=r"x\.json"):
        files.list_files(snapshot)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "x.json' is not valid JSON"),
        (b"\xff\xfe", "x.json' is not valid JSON"),
        (b"[1]", "holds a list, wanted a JSON object"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a.* stands there twice"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "nested more than 64 deep"),
        (b'{"a": ' + b"[" * 100_000, "nested more than 64 deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_bad_json_names_its_file(raw: bytes, message: str) -> None:
    with pytest.raises(UnsafeFileError, match=message):
        files.parse_json(raw, "x.json")


def test_large_json_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"a": "b" * 100}))
    with pytest.raises(UnsafeFileError, match=r"config\.json' is larger than 50 bytes"):
        files.load_json(tmp_path / "config.json", 50)


def test_quoted_text_is_escaped_and_capped() -> None:
    assert files.quoted("a\x1b[31m\n\u202e") == r"'a\x1b[31m\n\u202e'"
    assert len(files.quoted("\x1b" * 10_000)) < 220
    assert files.listed([f"file{number}" for number in range(9)]).endswith("'file4' and 4 more")


def test_header_agrees_with_the_library(model: Path) -> None:
    tensors = checkpoint.read_header(model / "model.safetensors", "model.safetensors")
    for name, values in load_file(model / "model.safetensors").items():
        assert tensors[name].shape == values.shape
        assert tensors[name].size == values.size
        if values.ndim == 2:
            np.testing.assert_array_equal(checkpoint.read_rows(tensors[name], [0, 3]), values[[0, 3]])


def test_a_header_length_that_looks_like_a_pickle_is_read(tmp_path: Path) -> None:
    raw = json.dumps({"a": entry()}).encode()
    file = write_safetensors(tmp_path / "x.safetensors", raw + b" " * (0x280 - len(raw)), bytes(8))
    assert file.read_bytes().startswith(b"\x80\x02")
    assert list(checkpoint.read_header(file, "x")) == ["a"]


def test_pickle_under_a_safetensors_name(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps({"weight": [1.0] * 100}))
    with pytest.raises(UnsafeFileError, match=r"model\.safetensors' is a pickle, which runs code.*convert it"):
        checkpoint.read_header(tmp_path / "model.safetensors", "model.safetensors")


def test_zip_under_a_safetensors_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 100)
    with pytest.raises(UnsafeFileError, match=r"is a zip archive, as torch\.save writes; the pickle inside runs code"):
        checkpoint.read_header(tmp_path / "model.safetensors", "model.safetensors")


def test_zip_behind_the_last_tensor(model: Path) -> None:
    with (model / "model.safetensors").open("ab") as stream:
        stream.write(b"PK\x03\x04")
    with pytest.raises(UnsafeFileError, match="holds 4 bytes that belong to no tensor"):
        checkpoint.read_header(model / "model.safetensors", "model.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 8, 100])
def test_truncated_before_the_data(model: Path, kept: int) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UnsafeFileError, match=r"model\.safetensors' .*(truncated|cut short)"):
        checkpoint.read_header(file, "model.safetensors")


def test_truncated_data(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UnsafeFileError, match=r"model\.safetensors' is truncated: tensor '.*' ends at byte"):
        checkpoint.read_header(file, "model.safetensors")


@pytest.mark.parametrize("length", [10_000, 100_000_001, 2**64 - 1])
def test_header_length_that_lies(tmp_path: Path, length: int) -> None:
    file = write_safetensors(tmp_path / "x", {"a": entry()}, bytes(8), length=length)
    with pytest.raises(UnsafeFileError, match=f"claims a header of {length} bytes"):
        checkpoint.read_header(file, "x")


def test_git_lfs_pointer(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(UnsafeFileError, match="git lfs pull"):
        checkpoint.read_header(tmp_path / "x", "x")


BAD_HEADERS: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{not json}", "header of x' is not valid JSON"),
    "no object": (b"[1]", "no JSON header"),
    "duplicate": (
        b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}',
        "stands there twice",
    ),
    "overlap": ({"a": entry(), "b": entry(offsets=(0, 8))}, "'b' in 'x' overlaps"),
    "gap": ({"a": entry(shape=(1,), offsets=(4, 8))}, "'a' in 'x' leaves a gap"),
    "out of range": ({"a": entry(shape=(4,), offsets=(0, 16))}, "truncated: tensor 'a' ends at byte"),
    "backwards": ({"a": entry(offsets=(8, 0))}, "offsets 8 to 0"),
    "wrong size": ({"a": entry(shape=(3,))}, "takes 12 bytes"),
    "negative": ({"a": entry(shape=(-2,))}, "whole numbers from 0"),
    "huge": ({"a": entry(shape=(2**60, 2**60))}, "whole numbers from 0"),
    "float shape": ({"a": entry() | {"shape": [2.0]}}, "whole numbers from 0"),
    "dtype": ({"a": entry("F99")}, "'a' in 'x' has the unknown dtype 'F99'"),
    "dtype list": ({"a": entry() | {"dtype": ["F32"]}}, "unknown dtype"),
    "keys": ({"a": {"dtype": "F32"}}, "needs exactly dtype, shape and data_offsets"),
    "metadata": ({"__metadata__": {"a": 1}, "a": entry()}, "must map names to text"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_bad_header(tmp_path: Path, case: str) -> None:
    header, message = BAD_HEADERS[case]
    with pytest.raises(UnsafeFileError, match=message):
        checkpoint.read_header(write_safetensors(tmp_path / "x", header, bytes(8)), "x")


def test_eight_bit_floats_are_not_read_yet(tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "x", {"a": entry("F8_E4M3", (8,))}, bytes(8))
    with pytest.raises(UnsupportedModelError, match="F8_E4M3"):
        checkpoint.read_header(file, "x")


def shard(model: Path) -> dict[str, str]:
    """Splits the model into two shards with an index."""
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(sorted(tensors))}
    for name in set(places.values()):
        save_file({key: tensors[key] for key, place in places.items() if place == name}, model / name)
    write_index(model, places)
    return places


def write_index(model: Path, places: dict[str, str]) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("place", ["../other.safetensors", "/etc/x.safetensors", "a\\b.safetensors", ".hidden", ""])
def test_index_that_leaves_the_directory(model: Path, place: str) -> None:
    places = shard(model)
    write_index(model, places | {next(iter(places)): place})
    with pytest.raises(UnsafeFileError, match=r"index\.json names the shard"):
        checkpoint.read_checkpoint(files.list_files(model))


def test_missing_shard(model: Path) -> None:
    shard(model)
    (model / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(IncompleteModelError, match=r"the shard 'model-00002-of-00002\.safetensors', which is missing"):
        checkpoint.read_checkpoint(files.list_files(model))


def test_shard_that_lacks_a_promised_tensor(model: Path) -> None:
    places = shard(model)
    write_index(model, places | {"model.extra.weight": "model-00001-of-00002.safetensors"})
    with pytest.raises(IncompleteModelError, match=r"promises tensor 'model\.extra\.weight' in 'model-00001"):
        checkpoint.read_checkpoint(files.list_files(model))


def test_tensor_in_two_shards(model: Path) -> None:
    places = shard(model)
    name = next(name for name, place in places.items() if "00001" in place)
    second = model / "model-00002-of-00002.safetensors"
    save_file(load_file(second) | {name: np.zeros(1, np.float32)}, second)
    with pytest.raises(UnsafeFileError, match=r"lies in .* and in another shard"):
        checkpoint.read_checkpoint(files.list_files(model))


def test_index_without_a_map(model: Path) -> None:
    shard(model)
    (model / "model.safetensors.index.json").write_text('{"weight_map": []}')
    with pytest.raises(UnsafeFileError, match="has no `weight_map`"):
        checkpoint.read_checkpoint(files.list_files(model))


BITS = {
    "F16": (np.uint16, 0x7C00, 0x7E01, 0x7BFF),
    "BF16": (np.uint16, 0x7F80, 0xFFC0, 0x7F7F),
    "F32": (np.uint32, 0x7F80_0000, 0xFFC0_0000, 0x7F7F_FFFF),
    "F64": (np.uint64, 0x7FF0_0000_0000_0000, 0xFFF8_0000_0000_0001, 0x7FEF_FFFF_FFFF_FFFF),
}


def store(file: Path, dtype: str, bits: np.ndarray[Any, Any]) -> dict[str, checkpoint.TensorInfo]:
    header = {"w": entry(dtype, bits.shape, (0, bits.nbytes))}
    return checkpoint.read_header(write_safetensors(file, header, bits.tobytes()), file.name)


@pytest.mark.parametrize("dtype", BITS)
def test_broken_numbers_are_found_wherever_they_are(tmp_path: Path, dtype: str) -> None:
    word, infinity, nan, largest = BITS[dtype]
    values = np.full(checkpoint.CHUNK + 3, largest, dtype=word)
    checkpoint.hash_tensors(store(tmp_path / "x.safetensors", dtype, values))
    for broken in (infinity, nan):
        values[-1] = broken
        with pytest.raises(BrokenWeightsError, match=r"tensor 'w' in 'x\.safetensors' holds NaN"):
            checkpoint.hash_tensors(store(tmp_path / "x.safetensors", dtype, values))


def test_integers_are_never_broken(tmp_path: Path) -> None:
    checkpoint.hash_tensors(store(tmp_path / "x", "I64", np.full(4, -1, dtype=np.int64)))


def test_empty_tensor(tmp_path: Path) -> None:
    assert len(checkpoint.hash_tensors(store(tmp_path / "x", "F32", np.zeros((0, 4), dtype=np.float32)))) == 64


def test_bfloat16_rows_are_widened_exactly(tmp_path: Path) -> None:
    import torch

    values = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    tensors = store(tmp_path / "x", "BF16", values.view(torch.uint16).numpy())
    rows = checkpoint.read_rows(tensors["w"], [5, 0, 2])
    np.testing.assert_array_equal(rows, values.float().numpy()[[5, 0, 2]])


@pytest.mark.parametrize(("dtype", "numpy_dtype"), [("F16", "f2"), ("F64", "f8"), ("I32", "i4"), ("BOOL", "u1")])
def test_rows_of_other_dtypes(tmp_path: Path, dtype: str, numpy_dtype: str) -> None:
    values = np.array([[1, 0], [1, 1]], dtype=numpy_dtype)
    np.testing.assert_array_equal(
        checkpoint.read_rows(store(tmp_path / "x", dtype, values)["w"], [1, 0]), values[[1, 0]]
    )


def test_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    tensors = store(tmp_path / "x", "F32", np.ones((4, 4), dtype=np.float32))
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-8])
    with pytest.raises(UnsafeFileError, match="became shorter"):
        checkpoint.hash_tensors(tensors)
    with pytest.raises(UnsafeFileError, match="became shorter"):
        checkpoint.read_rows(tensors["w"], [3])
