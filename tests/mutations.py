"""Damaged files: bytes from nowhere, a whole file with bytes changed, or with other JSON values."""

import json

from hypothesis import strategies as st

TOKENS = (
    *(
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 5000,
        b"-" + b"9" * 25,
        b"1" + b"0" * 400 + b".5",
        b"-0",
        b"1E400",
    ),
    *(b"[" * 2000, b'{"a":' * 2000, b"[" * 70 + b"]" * 70, b"[" * 100_000),
    *(b'"\\ud800"', b'"\\u0000"', b"\xff\xfe", b"\xed\xa0\x80", b"\x00", b"\n", b"\r\n", b"\xe2\x80\xa8"),
    *(
        b'"format":1,"format":2,',
        b'{"__proto__":1}',
        b"true",
        b"null",
        b'"../../../../etc/passwd"',
        b"1.0",
        b"[]",
    ),
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(
        (
            *(2**31, 2**63, 2**64, -(2**63), 10**19, 10**30, 10**4000, 0.5, -1.0, 1e308, 1e-320),
            *(float("nan"), float("inf"), "", "1", "\ud800", "\n\x1b[2J", "a" * 5000, "../..", "ta-lpg"),
        )
    )
    | st.text(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)
WHERE = st.integers(0, 2**32 - 1)
BYTE_EDITS = st.tuples(st.sampled_from(("flip", "cut", "drop", "insert", "length")), WHERE, WHERE)
TOKEN_EDITS = st.tuples(st.just("token"), WHERE, st.sampled_from(TOKENS))
VALUE_EDITS = st.tuples(st.sampled_from(("replace", "add")), WHERE, VALUES)
REMOVALS = st.tuples(st.just("remove"), WHERE, st.none())
EDITS = st.binary(max_size=60) | st.lists(
    VALUE_EDITS | BYTE_EDITS | TOKEN_EDITS | VALUE_EDITS | REMOVALS, min_size=1, max_size=2
)


def mutated(intact: bytes, edits: bytes | list) -> bytes:
    """A file after these edits; bytes alone are the file."""
    if isinstance(edits, bytes):
        return edits
    data = intact
    for kind, where, what in edits:
        change = change_value if kind in ("replace", "add", "remove") else change_bytes
        data = change(data, kind, where, what)
    return data


def change_bytes(data: bytes, kind: str, where: int, what: int | bytes) -> bytes:
    at = where % (len(data) + 1)
    if kind == "token":
        return data[:at] + what + data[at + (where >> 20) % 8 :]
    if kind == "flip":
        return data[:at] + bytes(byte ^ (1 << what % 8) for byte in data[at : at + 1]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    if kind == "drop":
        return data[:at] + data[at + what % 9 :]
    if kind == "length":  # of a safetensors header
        old = int.from_bytes(data[:8], "little")
        lengths = (0, 1, old - 1, old + 1, len(data), 2**31, 2**40, 2**63, 2**64 - 1, where)
        return (lengths[what % len(lengths)] % 2**64).to_bytes(8, "little") + data[8:]
    return data[:at] + what.to_bytes(4, "big") * (where % 3) + data[at:]


def change_value(data: bytes, kind: str, where: int, what: object) -> bytes:
    """Changes one value of one line that is JSON; a safetensors header counts as one."""
    length = int.from_bytes(data[:8], "little") if data[8:9] == b"{" else 0
    if length:
        header = change_value(data[8 : 8 + length], kind, where, what)
        return len(header).to_bytes(8, "little") + header + data[8 + length :]
    lines = data.splitlines(keepends=True) if data[:1] == b"{" and b"}\n{" in data else [data]
    line = where % len(lines)
    try:
        box = [json.loads(lines[line])]
    except (ValueError, RecursionError):
        return data
    places = list(places_in(box))
    parent, key = places[where % len(places)]
    if kind == "remove":
        del parent[key]
    elif kind == "add" and isinstance(parent[key], dict):
        parent[key]["added"] = what
    elif kind == "add" and isinstance(parent[key], list):
        parent[key].append(what)
    else:
        parent[key] = what
    try:
        lines[line] = (json.dumps(box[0]) if box else "").encode() + b"\n" * lines[line].endswith(b"\n")
    except ValueError:  # more digits than Python writes
        lines[line] = b'{"format": ' + b"1" * 5000 + b"}"
    return b"".join(lines)


def places_in(tree):
    """Every list or object with every index or name in it."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places_in(tree[key])
