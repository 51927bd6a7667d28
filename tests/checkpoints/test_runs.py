"""Run checkpoints: what was saved comes back bit for bit, or an earlier one does and says so."""

import errno
import os
import resource
import shutil
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from orbax.checkpoint import CheckpointManager

from rl_discovery.checkpoints.errors import CheckpointError, RunCheckpointError
from rl_discovery.checkpoints.runs import PRUNED, RunCheckpoints


class Counters(NamedTuple):
    generation: jax.Array
    env_steps: np.ndarray


@struct.dataclass
class State:
    params: dict
    optimiser: optax.OptState
    counters: Counters
    key: jax.Array
    nothing: None = None
    horizon: int = struct.field(pytree_node=False, default=7)


def make_state(generation):
    params = {
        "gru": {"kernel": jax.random.normal(jax.random.key(generation), (17, 33)), "x/y": jnp.arange(3)},
        "half": jnp.asarray([1.5, -2.0], jnp.bfloat16),
        "empty": jnp.zeros((0, 4)),
        "list": [jnp.asarray(True), (jnp.float32(jnp.nan),)],
    }
    return State(
        params=params,
        optimiser=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)).init(params["gru"]["kernel"]),
        counters=Counters(generation=jnp.int32(generation), env_steps=np.int64(2**40 + generation)),
        key=jax.random.split(jax.random.key(generation, impl="rbg"), 2),
    )


def assert_same(restored, saved):
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    for found, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(saved), strict=True):
        assert found.dtype == wanted.dtype
        if jnp.issubdtype(wanted.dtype, jax.dtypes.prng_key):
            found, wanted = jax.random.key_data(found), jax.random.key_data(wanted)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A run with checkpoints 1, 2 and 3."""
    directory = tmp_path_factory.mktemp("three")
    run = RunCheckpoints(directory)
    for generation in (1, 2, 3):
        run.save(generation, make_state(generation), {"env_steps": 10 * generation})
    run.close()
    return directory


@pytest.fixture
def copy(three, tmp_path):
    return shutil.copytree(three, tmp_path / "run")


def restore(directory, like=None):
    run = RunCheckpoints(directory)
    try:
        return run.restore(make_state(0) if like is None else like)
    finally:
        run.close()


def test_state_and_facts_come_back_bit_for_bit(three):
    restored = restore(three)
    assert (restored.generation, restored.facts, restored.damaged) == (3, {"env_steps": 30}, ())
    assert_same(restored.state, make_state(3))


def test_abstract_state_is_enough_to_restore(three):
    restored = restore(three, jax.eval_shape(lambda: make_state(0)).replace(counters=make_state(0).counters))
    assert_same(restored.state, make_state(3))


def test_directory_without_checkpoints_restores_nothing(tmp_path):
    assert restore(tmp_path / "new") is None


def test_only_the_newest_are_kept(tmp_path):
    run = RunCheckpoints(tmp_path, keep=2)
    for generation in range(4):
        run.save(generation, {"x": jnp.arange(3)}, {})
        assert run.latest() == generation
    run.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_best_stays_beside_the_newest_until_another_is_best(tmp_path):
    run = RunCheckpoints(tmp_path, keep=2)
    for generation in range(1, 6):
        run.save(generation, {"x": jnp.arange(3)}, {}, best=2 if generation > 1 else None)
    run.close()
    assert names(tmp_path) == ["2", "4", "5"]
    run = RunCheckpoints(tmp_path, keep=2)  # as after a restart
    run.save(6, {"x": jnp.arange(3)}, {}, best=2)
    run.save(7, {"x": jnp.arange(3)}, {}, best=7)
    run.save(8, {"x": jnp.arange(3)}, {}, best=7)
    run.save(9, {"x": jnp.arange(3)}, {}, best=7)
    run.close()
    assert names(tmp_path) == ["7", "8", "9"]


def test_a_checkpoint_that_must_go_is_whole_or_out_of_sight_whenever_the_process_dies(tmp_path, monkeypatch):
    """Deleting never gets further than its first step, as if the process had been killed there."""
    monkeypatch.setattr(RunCheckpoints, "_delete_pruned", lambda self: None)
    run = RunCheckpoints(tmp_path, keep=1)
    for generation in (1, 2):
        run.save(generation, {"x": jnp.arange(3)}, {})
    run.close()
    assert names(tmp_path) == ["2", PRUNED]
    assert names(tmp_path / PRUNED) == ["1"]
    assert (tmp_path / PRUNED / "1" / "state").is_dir(), "moved as it was"
    monkeypatch.undo()
    assert restore(tmp_path, {"x": jnp.arange(3)}).generation == 2
    assert names(tmp_path) == ["2"]


def test_state_may_change_as_soon_as_save_returns(tmp_path):
    state = {"x": np.ones(100_000)}
    run = RunCheckpoints(tmp_path)
    run.save(1, state, {})
    state["x"][:] = 2
    run.close()
    np.testing.assert_array_equal(restore(tmp_path, state).state["x"], np.ones(100_000))


def test_step_that_is_not_newer_is_an_error_and_not_ignored(copy):
    run = RunCheckpoints(copy)
    for generation in (2, 3):
        with pytest.raises(ValueError, match=f"{generation} is not newer than the latest checkpoint, 3"):
            run.save(generation, make_state(generation), {})
    run.close()


def damages(data):
    """A file as it might be found after an accident; None if it is gone."""
    middle = len(data) // 2
    yield "deleted", None
    yield "emptied", b""
    yield "halved", data[:middle]
    yield "flipped", data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    yield "zeroed", bytes(len(data))


@pytest.mark.slow
def test_every_damage_to_the_newest_is_harmless_or_falls_back_to_the_one_before(three, tmp_path):
    fell_back = set()
    files = [path.relative_to(three) for path in sorted((three / "3").rglob("*")) if path.is_file()]
    assert len(files) > 5
    for number, file in enumerate(files):
        for damage, data in damages((three / file).read_bytes()) if (three / file).stat().st_size else ():
            directory = shutil.copytree(three, tmp_path / f"{number}{damage}")
            if data is None:
                (directory / file).unlink()
            else:
                (directory / file).write_bytes(data)
            restored = restore(directory)
            assert_same(restored.state, make_state(restored.generation))
            if restored.generation != 3:
                assert (restored.generation, restored.damaged) == (2, (3,)), f"{file} {damage}"
                fell_back.add((file.name, damage))
    assert {damage for _, damage in fell_back} == {"deleted", "emptied", "halved", "flipped", "zeroed"}


def test_damage_is_reported_without_tracebacks(tmp_path, capfd, recwarn):
    state = {f"{number}": np.random.default_rng(number).standard_normal(500) for number in range(30)}
    run = RunCheckpoints(tmp_path)
    for generation in (1, 2):
        run.save(generation, state, {})
    run.close()
    for data in (tmp_path / "2" / "state" / "d").iterdir():
        data.write_bytes(bytes(data.stat().st_size))
    assert restore(tmp_path, state).damaged == (2,)
    time.sleep(0.1)  # for reads that outlive the restore that failed
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)


def test_run_goes_on_from_the_step_before_two_damaged_ones(copy):
    shutil.rmtree(copy / "3" / "state")
    (copy / "2" / "record" / "metadata").write_text("{")
    run = RunCheckpoints(copy)
    restored = run.restore(make_state(0))
    assert (restored.generation, restored.damaged) == (1, (3, 2))
    assert run.latest() == 1
    run.save(2, make_state(2), {"again": True})
    run.close()
    again = restore(copy)
    assert (again.generation, again.facts, again.damaged) == (2, {"again": True}, ())
    assert (copy / "damaged-3").is_dir()


def test_changed_facts_are_noticed(copy):
    record = copy / "3" / "record" / "metadata"
    record.write_text(record.read_text().replace("30", "31"))
    assert restore(copy).damaged == (3,)


def test_all_damaged_is_an_error_that_moves_nothing(copy):
    for step in "123":
        shutil.rmtree(copy / step / "state")
    with pytest.raises(RunCheckpointError, match=r"every checkpoint .* is damaged \(3, 2, 1\)"):
        restore(copy)
    assert sorted(path.name for path in copy.iterdir()) == ["1", "2", "3"]


def test_state_of_another_shape_is_an_error_and_not_damage(copy):
    other = make_state(0).replace(key=jax.random.key(0))
    with pytest.raises(RunCheckpointError, match=r"holds another state .*\.key"):
        restore(copy, other)
    assert (copy / "3").is_dir()


def test_newer_format_is_an_error_and_not_damage(tmp_path, monkeypatch):
    run = RunCheckpoints(tmp_path)
    monkeypatch.setattr("rl_discovery.checkpoints.runs.FORMAT", 2)
    run.save(1, {"x": jnp.ones(2)}, {})
    run.close()
    monkeypatch.undo()
    with pytest.raises(RunCheckpointError, match="format 2, newer than 1: install a newer rl-discovery"):
        restore(tmp_path, {"x": jnp.ones(2)})


def test_unusable_directory_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunCheckpointError, match=r"cannot use .* for checkpoints: Not a directory"):
        RunCheckpoints(tmp_path / "file" / "checkpoints")


@pytest.fixture
def tiny_files():
    """No file may grow beyond 100 kB: to the writer the same as a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_failed_write_is_reported_and_leaves_the_earlier_ones(tmp_path, tiny_files, capfd):
    big = {"x": np.random.default_rng(0).standard_normal(100_000)}
    small = {"x": np.zeros(100_000)}  # compressed to next to nothing
    run = RunCheckpoints(tmp_path, keep=1)
    run.save(1, small, {})
    run.save(2, big, {})
    with pytest.raises(
        CheckpointError, match=r"cannot write checkpoint 2 to .*: File too large; earlier"
    ) as caught:
        run.wait()
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert run.latest() == 1
    run.save(3, big, {})
    with pytest.raises(CheckpointError, match="cannot write checkpoint 3"):
        run.save(4, small, {})
    tiny_files()  # space was made
    run.save(5, big, {})
    run.close()
    restored = restore(tmp_path, big)
    assert (restored.generation, restored.damaged) == (5, ())
    assert "Traceback" not in capfd.readouterr().err


def poll_for_ever(run):
    """A save ends in the background."""
    while True:
        run.poll()


@pytest.mark.parametrize(
    "what",
    ["state", "state/manifest.ocdbt", "state/_METADATA", "state/d/*", "state/**/d/*", "record/metadata"],
)
def test_a_step_that_lacks_what_a_restore_needs_is_reported_after_its_save(copy, what):
    run = RunCheckpoints(copy)
    run.save(4, make_state(4), {})
    while not (copy / "4").is_dir():  # Orbax writes it elsewhere and renames it
        time.sleep(0.01)
    lost = max((copy / "4").glob(what), key=lambda path: path.stat().st_size)
    lost.rename(copy.parent / "lost")
    with pytest.raises(RunCheckpointError, match=r"checkpoint 4 in .* cannot be read back") as caught:
        poll_for_ever(run)
    assert "\n" not in str(caught.value)
    assert run.latest() == 3
    run.close()
    assert (copy / "damaged-4").is_dir()
    assert restore(copy).generation == 3


def test_a_library_that_writes_less_than_it_says_is_noticed_at_the_first_save(tmp_path, monkeypatch):
    """As Orbax does where it finds no arrays to merge: it logs a warning."""

    async def nothing(*_, **__):
        pass

    monkeypatch.setattr(
        "orbax.checkpoint._src.serialization.ocdbt_utils.merge_ocdbt_per_process_files", nothing
    )
    run = RunCheckpoints(tmp_path)
    run.save(1, {"x": jnp.ones(2)}, {})
    with pytest.raises(RunCheckpointError, match=r"checkpoint 1 in .* cannot be read back .*damaged-1"):
        run.close()
    assert names(tmp_path) == ["damaged-1"]


def test_a_save_that_goes_on_is_not_waited_for(tmp_path, monkeypatch):
    run = RunCheckpoints(tmp_path)
    run.poll()
    run.save(1, {"x": jnp.ones(2)}, {})
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "is_saving_in_progress", lambda _: True)
        patch.setattr(run, "wait", lambda: pytest.fail("waited"))
        run.poll()
    run.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES, errno.ENOMEM, errno.ESTALE])
@pytest.mark.parametrize("library", ["python", "tensorstore"])
def test_what_the_machine_cannot_read_now_is_not_called_damaged_and_stays(copy, monkeypatch, number, library):
    said = OSError(number, os.strerror(number))
    if library == "tensorstore":
        said = ValueError(f"Failed to open: \"x\": {os.strerror(number)} [os_error_code='{number}']")
    run = RunCheckpoints(copy)

    def fail(*_, **__):
        raise said

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "restore", fail)
        with pytest.raises(RunCheckpointError, match=f"cannot read .*3: {os.strerror(number)}") as caught:
            run.restore(make_state(0))
    assert "damaged" not in str(caught.value)
    assert names(copy) == ["1", "2", "3"]
    assert run.restore(make_state(0)).generation == 3
    run.close()
