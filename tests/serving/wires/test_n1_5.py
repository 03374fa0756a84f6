"""Oracle: the bytes of NVIDIA's client and server on the wire (golden/wire), and their packer's refusals.

The dtypes, shapes and values of `arrays.bin` are those in the description that was recorded with it.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable

import msgpack
import numpy as np
import pytest
import torch
from PIL import Image

from gr00t.serving.wires import n1_5 as wire
from tests.serving.recorded import FOLDER, MODALITY_CONFIG, recorded


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def message(as_npy: object) -> bytes:
    return msgpack.packb({"state.x": {"__ndarray_class__": True, "as_npy": as_npy}})


def with_header(header: str, data: bytes = b"") -> bytes:
    return message(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.bin")))
def test_recorded_message_decodes_and_encodes_to_the_same_bytes(name: str) -> None:
    assert wire.pack(wire.unpack(recorded(name))) == recorded(name)
    assert wire.MsgSerializer.to_bytes(wire.MsgSerializer.from_bytes(recorded(name))) == recorded(name)


def test_there_are_thirteen_recorded_messages() -> None:
    assert len(list(FOLDER.glob("*.bin"))) == 13


def test_recorded_arrays_have_the_described_dtypes_shapes_and_values() -> None:
    arrays = wire.unpack(recorded("arrays"))
    kinds = {
        name: (value.dtype.str, value.shape) for name, value in arrays.items() if hasattr(value, "dtype")
    }
    assert kinds == {
        "f16": ("<f2", (4,)),
        "f64": ("<f8", (1, 2)),
        "i64": ("<i8", (3,)),
        "u8": ("|u1", (2,)),
        "bool": ("|b1", (2,)),
        "str": ("<U7", (2,)),
        "zero_d": ("<f4", ()),
        "empty": ("<f4", (0, 3)),
        "fortran": ("<f4", (2, 3)),
        "big_endian": (">i4", (2,)),
    }
    assert arrays["fortran"].flags.f_contiguous
    assert not arrays["fortran"].flags.c_contiguous
    assert arrays["fortran"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert arrays["big_endian"].tolist() == [1, 2]
    assert arrays["str"].tolist() == ["pick up", "é"]
    assert arrays["zero_d"] == np.float32(3.5)
    assert arrays["scalars"] == [1, 2.5, None, True, "x", b"raw"]
    assert arrays["nested"]["a"]["b"].tolist() == [7]
    assert arrays["np_float64_scalar"] == 1.25


def test_decoded_array_can_be_written_to_and_equals_numpys_own_reading() -> None:
    for array in (np.arange(6.0).reshape(2, 3), np.array(True), np.zeros((0, 2)), np.array(["ab"])):
        decoded = wire.unpack(wire.pack({"a": array}))["a"]
        assert decoded.flags.writeable
        np.testing.assert_array_equal(decoded, np.load(io.BytesIO(npy(array))), strict=True)


def test_npy_versions_2_and_3_are_read_like_numpy_reads_them() -> None:
    for version in ((2, 0), (3, 0)):
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.arange(4, dtype=np.int16), version=version)
        assert wire.unpack(message(buffer.getvalue()))["state.x"].tolist() == [0, 1, 2, 3]


def test_modality_config_arrives_as_modality_config() -> None:
    decoded = wire.unpack(recorded("resp_get_modality_config"))
    assert decoded == MODALITY_CONFIG
    assert decoded["action"].delta_indices == list(range(16))
    assert wire.pack(MODALITY_CONFIG) == recorded("resp_get_modality_config")


IMAGE = Image.fromarray(np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3))


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float16(0.5), 0.5),
        (np.int64(-7), -7),
        (np.uint8(255), 255),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        ((1, 2), [1, 2]),
        (np.array(2.5, np.float32), np.array(2.5, np.float32)),
        (torch.tensor([[1.5, 2.5]]), np.array([[1.5, 2.5]], np.float32)),
        (torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True), np.array([1.5], np.float32)),
        (torch.arange(6).reshape(2, 3).T, np.array([[0, 3], [1, 4], [2, 5]])),
        (torch.tensor(3), np.array(3)),
        (np.ma.array([1.0, 2.0]), np.array([1.0, 2.0])),
        (IMAGE, np.asarray(IMAGE)),
        ([IMAGE, IMAGE], [np.asarray(IMAGE)] * 2),
    ],
    ids=range(15),
)
def test_what_robots_have_at_hand_is_sent_as_the_number_or_array_that_it_is(
    value: object, sent: object
) -> None:
    got = wire.unpack(wire.pack({"a": value}))["a"]
    assert type(got) is type(sent)
    np.testing.assert_equal(got, sent)
    if isinstance(sent, np.ndarray):
        np.testing.assert_array_equal(got, sent, strict=True)


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([None]), "Object arrays cannot be saved when allow_pickle=False"),
        (np.complex64(1), "can not serialize 'numpy.complex64' object"),
        (np.longdouble(1), "can not serialize 'numpy.longdouble' object"),
        (np.datetime64("2025-01-01"), "can not serialize 'numpy.datetime64' object"),
        ({1, 2}, "can not serialize 'set' object"),
        (object(), "can not serialize 'object' object"),
        (2**64, "integer value out of range"),
        ("\ud800", "'utf-8' codec can't encode character"),
        (torch.zeros(2, 2).to_sparse(), "can't convert Sparse layout tensor to numpy"),
        (np.ma.array([1.0, 2.0], mask=[False, True]), "an array with masked entries; send array.filled(...)"),
        (IMAGE.convert("L"), "object of mode 'L'; send image.convert('RGB')"),
        (IMAGE.convert("RGBA"), "object of mode 'RGBA'; send image.convert('RGB')"),
    ],
    ids=range(12),
)
def test_what_cannot_be_sent_is_named_by_its_key(value: object, text: str) -> None:
    for message, where in [
        ({"endpoint": "get_action", "data": {"state.x": [1], "state.y": value}}, "data: state.y"),
        ({"data": {"video.image": [IMAGE, [value]]}}, "data: video.image[1][0]"),
        (value, "message"),
    ]:
        with pytest.raises(wire.PackError) as caught:
            wire.pack(message)
        assert str(caught.value).startswith(f"{where}: cannot be sent: ")
        assert text.lower() in str(caught.value).lower()


def test_a_message_that_holds_itself_cannot_be_sent_either() -> None:
    with pytest.raises(wire.PackError, match=r"a\[0\]\[0\].*: cannot be sent: "):
        wire.pack({"a": LOOP})


OLD = "Isaac-GR00T clients before September 2025"


def saved_by_torch(legacy: bool) -> bytes:
    buffer = io.BytesIO()
    request = {"endpoint": "get_action", "data": {"state.x": np.zeros((1, 1))}}
    torch.save(request, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("payload", "texts"),
    [
        (
            saved_by_torch(False),
            ("this message was written by torch.save", OLD, "gr00t/eval/service.py of a later"),
        ),
        (saved_by_torch(True), ("this message is a pickle", OLD)),
        *[(pickle.dumps({"a": 1}, protocol), ("this message is a pickle", OLD)) for protocol in (2, 3, 4, 5)],
        (json.dumps({"endpoint": "ping"}).encode(), ("this message is JSON text", "--http-server")),
        (json.dumps({"endpoint": "ping"}, indent=2).encode(), ("this message is JSON text", "--http-server")),
        (b'  [{"a": 1}]', ("this message is JSON text", "--http-server")),
        (npy(np.zeros(3)), ("this message is a bare .npy file", "msgpack map with endpoint and data")),
        (b"ERROR", ("the error reply of an Isaac-GR00T server of before September 2025",)),
    ],
    ids=range(11),
)
def test_a_message_in_another_format_is_called_by_its_name(payload: bytes, texts: tuple[str, ...]) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.unpack(payload)
    for text in texts:
        assert text in str(caught.value)


OBJECT_HEADER = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
RECORD_HEADER = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }"
PLAIN_ONLY = "array: a plain boolean, integer, float, complex or text array is expected, not object arrays"
BAD_MESSAGES = [
    (b"\x81\xa4data\x82\xa1a\x01\xa1a\x02", "data: a map has the key 'a' twice"),
    (b"", "not a msgpack message: "),
    (recorded("req_ping")[:-2], "not a msgpack message: Unpack failed: incomplete"),
    (b"garbage", "unpack(b) received extra data."),  # recorded from NVIDIA's server
    (b"\xc1", "not a msgpack message: invalid byte"),
    (msgpack.packb({1: 2}), "not a msgpack message: int is not allowed for map key"),
    (b"\x91" * 5000 + b"\xc0", "message is nested too deeply"),
    (b"\xdd\xff\xff\xff\xff", "not a msgpack message: 4294967295 exceeds"),
    (
        msgpack.packb([[]] * (wire.MAX_VALUES + 1)),
        "message with more than 1000000 values; send numbers as arrays",
    ),
    (message(7), "array: as_npy must be the bytes of a .npy file, got int"),
    (message("text"), "array: as_npy must be the bytes of a .npy file, got str"),
    (message(b""), "array: as_npy does not begin like a .npy file"),
    (message(b"PK\x03\x04 a zip of pickles"), "array: as_npy does not begin like a .npy file"),
    (message(b"\x80\x04N."), "array: as_npy does not begin like a .npy file"),
    (message(b"\x93NUMPY\x01\x00\x76"), "array: as_npy does not begin like a .npy file"),
    (with_header(OBJECT_HEADER, b"\x80\x04N."), PLAIN_ONLY),
    (with_header(RECORD_HEADER, b"1234"), PLAIN_ONLY),
    (with_header("__import__('os').abort()"), PLAIN_ONLY),
    (message(npy(np.zeros(3))[:-1]), "array: <f8 of shape (3,) takes 24 bytes, got 23"),
    (message(npy(np.zeros(3)) + b"x"), "array: <f8 of shape (3,) takes 24 bytes, got 25"),
    (
        with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000000), }"),
        "array: <f8 of shape (1000000000, 1000000000) takes 8000000000000000000 bytes, got 0",
    ),
    (
        with_header("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }"),
        "array: <U0 of shape (1000000000000,) takes 0 bytes, got 0",
    ),
    (
        with_header("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", b"\xff\xff\xff\x7f"),
        "array: <U1 with characters that are none",
    ),
    (
        with_header("{'descr': '>U2', 'fortran_order': False, 'shape': (), }", bytes(4) + b"\0\x11\0\0"),
        "array: >U2 with characters that are none",
    ),
    (with_header("{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }"), "array: <f3 of shape (1,): "),
    (
        with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "0," * 99 + "), }"),
        "state.x: array: 99 dimensions; at most 32 are accepted",
    ),
    (
        msgpack.packb({"a": {"__ModalityConfig_class__": True}}),
        "ModalityConfig: as_json must be text, got NoneType",
    ),
    # Twenty million lists in forty megabytes that no bound on values sees.
    (
        msgpack.packb({"a": {"__ModalityConfig_class__": True, "as_json": b"[" + b"[]," * 99 + b"1]"}}),
        "ModalityConfig: as_json must be text, got bytes",
    ),
    (
        msgpack.packb({"a": {"__ModalityConfig_class__": True, "as_json": "{"}}),
        "ModalityConfig: as_json is not one: JSONDecodeError",
    ),
    (
        msgpack.packb({"a": {"__ModalityConfig_class__": True, "as_json": "[1]"}}),
        "ModalityConfig: as_json is not one: TypeError",
    ),
]


@pytest.mark.parametrize(("payload", "text"), BAD_MESSAGES, ids=range(len(BAD_MESSAGES)))
def test_bad_message_is_refused_with_a_text_that_says_what(payload: bytes, text: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.unpack(payload)
    # What is wrong with a value is said behind the key under which it stands.
    where = {"a": "state.x: ", "M": "a: "}.get(text[:1], "") if text.startswith(("array", "Modality")) else ""
    assert str(caught.value).startswith(where + text)


@pytest.mark.parametrize(
    ("nest", "where"),
    [
        (lambda bad: bad, ""),
        (lambda bad: {"data": {"state.x": 1, "video.y": bad}}, "data: video.y: "),
        (lambda bad: {"data": {"video.y": [1, [bad]], "z": [0] * 10}}, "data: video.y[1][0]: "),
        (lambda bad: {"k" * 5_000: bad}, "k" * 60 + ": "),
        (lambda bad: [[0] * 200_000, bad], "[1]: "),
        (lambda bad: [bad, [0] * 200_000], ""),  # too far to look
    ],
    ids=range(6),
)
def test_an_array_that_is_none_is_named_by_its_key(nest: Callable[[object], object], where: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.unpack(msgpack.packb(nest({"__ndarray_class__": True, "as_npy": 7})))
    assert str(caught.value) == f"{where}array: as_npy must be the bytes of a .npy file, got int"
