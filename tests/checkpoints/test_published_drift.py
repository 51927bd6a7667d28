"""Drifts that published code has saved: what becomes of them is the published formula."""

import contextlib
import io
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from rl_discovery.checkpoints import DriftFileError, import_drift, load_objective, save_objective

GENERATOR = np.random.default_rng(0)
LOG_RATIO, A = (x.ravel() for x in np.meshgrid(np.linspace(-2, 2, 41), np.linspace(-4, 4, 17)))
R = np.exp(LOG_RATIO)


def layers(width=128):
    """Random weights, of the hidden layer and of the output."""
    return GENERATOR.normal(0, 0.5, (8, width)), GENERATOR.normal(0, 0.3, (width, 1))


HIDDEN, OUT = (layer.astype(np.float32) for layer in layers())


def published(names, *, ppo=True, eps=0.2, xi=1e-4):
    """The drift of published code whose inputs are these functions of the ratio, and each times A."""
    functions = {
        "log": np.log(R),
        "log2": np.log(R) * np.log(R),
        "1-r": 1 - R,
        "r-1": R - 1,
        "(1-r)2": (1 - R) * (1 - R),
    }
    x = np.stack([functions[name] for name in names], axis=-1)
    x = np.concatenate((x, A[:, None] * x), axis=-1)
    f = (np.tanh(x @ HIDDEN) @ OUT)[:, 0]
    if ppo:
        f = f + np.maximum((R - np.clip(R, 1 - eps, 1 + eps)) * A, 0)
    return np.maximum(f - xi, 0)


def saved(path, hidden=HIDDEN, out=OUT):
    """Weights in a file of that kind, with the names that flax gives."""
    named = {"params/hidden/kernel": hidden, "params/out/kernel": out}
    if path.suffix == ".npy":
        np.save(path, np.concatenate([hidden.ravel(), out.ravel()]))
    elif path.suffix == ".npz":
        np.savez(path, **named)
    else:
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(array) for name, array in named.items()}, path
        )
    return path


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
@pytest.mark.parametrize(
    ("settings", "names", "formula"),
    [
        ({}, ("log", "log2", "1-r", "(1-r)2"), {}),
        ({"form": "plain"}, ("log", "log2", "1-r", "(1-r)2"), {"ppo": False}),
        (
            {"inputs": "goldie2025", "clip": 0.3, "offset": 1e-6},
            ("r-1", "(1-r)2", "log", "log2"),
            {"eps": 0.3, "xi": 1e-6},
        ),
        ({"inputs": "rl-discovery"}, ("log", "log2", "r-1", "(1-r)2"), {}),
    ],
)
def test_an_imported_drift_is_the_published_formula(kind, settings, names, formula, tmp_path):
    save_objective(tmp_path / "lpo.safetensors", import_drift(saved(tmp_path / f"theirs.{kind}"), **settings))
    objective = load_objective(tmp_path / "lpo.safetensors")
    found = objective.drift(jnp.asarray(R), jnp.asarray(A))
    expected = published(names, **formula)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (expected > 0.1).mean() > 0.2
    assert objective.card["imported_from"] == f"theirs.{kind} ({settings.get('inputs', 'lu2022')})"


def test_any_width_and_precision_and_columns_first_will_do(tmp_path):
    hidden, out = layers(width=8)  # in which the two layers are nearly alike
    np.savez(tmp_path / "a.npz", b=np.asfortranarray(hidden), a=out)
    objective = import_drift(tmp_path / "a.npz", "rl-discovery")
    np.testing.assert_array_equal(objective.meta_params["hidden"]["kernel"], hidden.astype(np.float32))
    np.testing.assert_array_equal(objective.meta_params["out"]["kernel"], out.astype(np.float32))


def archive(**members):
    """A .npz file with these bytes in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return stream.getvalue()


def npy(array, **options):
    """A .npy file's bytes."""
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(**arrays):
    """A .npz file's bytes."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


HUGE = npy(np.zeros(9, np.float32)).replace(b"(9,)", b"(900000000000,)")
BIASES = {"hidden.bias": np.zeros(128), "out.bias": np.zeros(1)}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pkl", b"", "no .npy, .npz or .safetensors file"),
        ("a.npz", None, "cannot read"),
        ("a.npz", b"nothing", "is not a .npz file"),
        ("a.npz", archive(), "has no arrays"),
        ("a.npz", npz(hidden=HIDDEN, out=OUT, **BIASES), "no biases"),
        (
            "a.npz",
            npz(hidden=np.zeros((16, 4)), out=np.zeros((4, 1))),
            r"hidden \[16, 4\], out \[4, 1\]; an LPO",
        ),
        ("a.npz", npz(hidden=np.zeros((8, 0)), out=np.zeros((0, 1))), "an LPO drift is two arrays"),
        ("a.npz", npz(hidden=HIDDEN, out=OUT * np.nan), "not finite"),
        ("a.npz", npz(hidden=np.full((8, 1), 1e300), out=np.zeros((1, 1))), "not finite in float32"),
        ("a.npz", npz(hidden=np.zeros((8, 1), int), out=OUT[:1]), "int64, not floating point"),
        ("a.npz", archive(zeros=bytes(17 * 2**20)), "unpacks to"),
        ("a.npy", bytes(17 * 2**20), "more than the"),
        ("a.npy", npy(np.zeros(10)), r"shape \[10\]"),
        ("a.npy", npy(HIDDEN), "one vector of 9 numbers"),
        ("a.npy", npy(np.array({"hidden": HIDDEN}), allow_pickle=True), "pickle"),
        ("a.npy", HUGE, "its size is not that of its shape"),
        ("a.npy", npy(np.zeros(9))[:-1], "its size is not that of its shape"),
        ("a.npy", b"\x93NUMPY\x01\x00v\x00" + b"(" * 118, "is damaged"),
        ("a.safetensors", b"nothing", "is not a saved drift"),
        ("a.safetensors", safetensors.numpy.save({"w": np.zeros((8, 1), np.int32)}), "is I32"),
    ],
)
def test_what_is_no_drift_is_refused_in_one_line(name, data, message, tmp_path):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DriftFileError, match=message) as caught:
        import_drift(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_a_damaged_file_raises_nothing_else(kind, tmp_path):
    path = saved(tmp_path / f"theirs.{kind}", *layers(4))
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(
            whole[: GENERATOR.integers(len(whole) + 1)] if GENERATOR.random() < 0.3 else whole
        )
        for _ in range(GENERATOR.integers(1, 6) if damaged else 0):
            damaged[GENERATOR.integers(min(len(damaged), 400))] = GENERATOR.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(DriftFileError):
            import_drift(path)
