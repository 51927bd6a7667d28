import hashlib
import io
import itertools
import json
import os
import re
import sys
import types

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.layout_pb2 import Layout
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import masked_crc32c

from rl_discovery.checkpoints.fields import flatten
from rl_discovery.meta.config import to_json
from rl_discovery.meta.errors import ConfigError, RunError
from rl_discovery.meta.runs import sweep
from rl_discovery.meta.runs.loggers import (
    PACE_GENERATIONS,
    Points,
    TensorBoard,
    Terminal,
    WeightsAndBiases,
    make_loggers,
)
from rl_discovery.meta.runs.meta_train import meta_train
from rl_discovery.meta.runs.overview import GLANCE, Overview, charts, make_overview
from tests.meta.tiny import tiny


def row(generation, **changes):
    return {
        "generation": generation,
        "wall_s": 1.5,
        "generation_s": 0.5,
        "env_steps": 10,
        "env_steps_per_s": 2_500_000.0,
        "fitness_mean": float(generation),
        "fitness_best": 2.0 * generation,
    } | changes


NOTHING = Overview(charts={}, texts={}, hparams={})

OWN = {"custom_scalars__config__", "time/hours_to_go"}
"""Tags of TensorBoard events that are no metric's."""


def events(file):
    """The events of one file, checksums verified: length, its CRC, data, its CRC."""
    data = file.read_bytes()
    while data:
        length = int.from_bytes(data[:8], "little")
        assert masked_crc32c(data[:8]) == int.from_bytes(data[8:12], "little")
        record, data = data[12 : 12 + length], data[12 + length :]
        assert masked_crc32c(record) == int.from_bytes(data[:4], "little")
        data = data[4:]
        yield Event.FromString(record)


def shown(directory):
    """What TensorBoard shows: step to value of fitness_mean, a restart hiding what came at or after it."""
    points = {}
    for file in sorted(directory.iterdir()):
        for event in events(file):
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                points = {step: value for step, value in points.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == "meta/fitness_mean":
                    points.setdefault(event.step, []).append(value.simple_value)
    return points


def write(directory, done, rows, monkeypatch, clock):
    # Event files are named and ordered by the second they were made in.
    monkeypatch.setattr("time.time", lambda: clock)
    writer = TensorBoard(directory, 9, done, NOTHING)
    for values in rows:
        writer.generation(values)
    writer.close()


def test_tensorboard_events_hold_every_metric_that_has_a_value(tmp_path, monkeypatch):
    rows = [row(n, regret_mean=None) for n in range(3)]
    write(tmp_path, 0, rows, monkeypatch, 1000)
    assert shown(tmp_path) == {0: [0.0], 1: [1.0], 2: [2.0]}
    (file,) = tmp_path.iterdir()
    tags = {value.tag for event in events(file) for value in event.summary.value}
    assert tags - OWN == {f"meta/{name}" for name in row(0) if name != "generation"}
    assert tags >= OWN


def test_metrics_of_the_curriculum_and_of_levels_have_panels_of_their_own(tmp_path, monkeypatch):
    panels = {
        "curriculum": ("replay_fraction", "regret_fresh", "score_replayed", "buffer_age"),
        "levels": ("level_horizon", "replayed_level_walls"),
        "meta": ("fitness_mean", "meta_gradient_norm", "learning_rate", "lifetimes_ended"),
    }
    names = [name for names in panels.values() for name in names]
    found = dict.fromkeys(names, 1.0) | {"generation": 0, "generation_s": 1.0}
    write(tmp_path, 0, [found], monkeypatch, 1000)
    (file,) = tmp_path.iterdir()
    tags = {value.tag for event in events(file) for value in event.summary.value}
    shown = {f"{panel}/{name}" for panel, names in panels.items() for name in names}
    assert tags - OWN == shown | {"meta/generation_s"}


def picture():
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Figure(figsize=(0.4, 0.2), facecolor="#ff8000").savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def test_tensorboard_shows_the_gallery_as_it_is_and_histograms(tmp_path):
    writer = TensorBoard(tmp_path, 9, 0, NOTHING)
    writer.histograms({"score": np.array([1.0, 2.0, 4.0])}, 3)
    writer.gallery(picture(), 3)
    writer.close()
    (file,) = tmp_path.iterdir()
    found = {value.tag: (event.step, value) for event in events(file) for value in event.summary.value}
    step, value = found["curriculum/score"]
    assert (step, value.histo.num, value.histo.sum) == (3, 3, 7)
    step, value = found["curriculum/gallery"]
    assert (step, value.image.height, value.image.width) == (3, 20, 40)
    pixels = imread(io.BytesIO(value.image.encoded_image_string), format="png")
    np.testing.assert_allclose(pixels[..., :3], np.broadcast_to([1, 128 / 255, 0], (20, 40, 3)), atol=1e-6)


def test_a_run_goes_on_without_events_where_the_disk_is_full(tmp_path, caplog, monkeypatch):
    writer = TensorBoard(tmp_path, 99, 0, NOTHING, now=itertools.count(0, 11).__next__)
    writer.generation(row(0))

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        for n in range(1, 50):
            writer.generation(row(n))
            writer.histograms({"score": np.ones(3)}, n)
            writer.gallery(picture(), n)
    writer.close()
    said = [record.message for record in caplog.records]
    assert said == ["no more TensorBoard events: [Errno 28] No space left on device"]
    (file,) = tmp_path.iterdir()
    assert [event.step for event in events(file)][-1] == 1, "nothing is half-written"


def test_a_folder_that_cannot_be_made_is_no_reason_to_end(tmp_path, caplog):
    (tmp_path / "tb").write_text("a file")
    writer = TensorBoard(tmp_path / "tb", 9, 0, NOTHING)
    writer.generation(row(0))
    writer.close()
    assert caplog.records[0].message.startswith("no more TensorBoard events: ")


def test_wandb_is_given_the_gallery_and_histograms_at_the_step_of_the_generation(tmp_path, monkeypatch):
    logged = []
    run = types.SimpleNamespace(log=lambda values, step: logged.append((step, values)), finish=lambda: None)
    wandb = types.SimpleNamespace(
        init=lambda **_: run, Histogram=lambda numbers: list(numbers), Image=lambda pixels: pixels.shape
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    watcher = WeightsAndBiases(tiny(logging={"wandb_project": "objectives"}), tmp_path)
    watcher.histograms({"age": np.array([1, 2])}, 3)
    watcher.gallery(picture(), 3)
    assert logged == [(3, {"curriculum/age": [1, 2]}), (3, {"curriculum/gallery": (20, 40, 3)})]


@pytest.fixture
def began(monkeypatch):
    """Ids that Weights & Biases was given, in their order."""
    ids = []
    run = types.SimpleNamespace(finish=lambda: None)

    def init(**settings):
        ids.append(settings["id"])
        return run

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init, Histogram=None, Image=None))
    return ids


WANDB = tiny(logging={"wandb_project": "objectives"})


def test_wandb_knows_a_run_by_its_directory_wherever_that_is_and_no_other_run_in_its_place(tmp_path, began):
    place, elsewhere = tmp_path / "run", tmp_path / "moved"
    place.mkdir()
    WeightsAndBiases(WANDB, place)
    WeightsAndBiases(WANDB, place)
    place.rename(elsewhere)
    WeightsAndBiases(WANDB, elsewhere)
    place.mkdir()
    WeightsAndBiases(WANDB, place)
    first, resumed, moved, another = began
    assert first == resumed == moved != another
    assert re.fullmatch("[0-9a-f]{16}", first)


@pytest.mark.parametrize("folder", ["run-20260101_120000-", "offline-run-20260101_120000-"])
def test_a_run_that_wandb_knew_by_its_path_goes_on_so(tmp_path, began, folder):
    former = hashlib.sha256(str(tmp_path.resolve()).encode()).hexdigest()[:16]
    (tmp_path / "wandb" / f"{folder}{former}").mkdir(parents=True)
    for _ in range(2):
        WeightsAndBiases(WANDB, tmp_path)
    assert began == [former, former]


@pytest.mark.parametrize("content", [b"", b"a b", b"../x", b"\xff", b"a" * 1000])
def test_an_id_that_is_none_is_one_line_and_kept(tmp_path, began, content):
    (tmp_path / "wandb-id.txt").write_bytes(content)
    with pytest.raises(RunError, match="holds no id of Weights & Biases; delete it"):
        WeightsAndBiases(WANDB, tmp_path)
    assert (tmp_path / "wandb-id.txt").read_bytes() == content
    assert not began


def test_the_panel_of_time_shows_shares_and_that_of_held_out_levels_their_fitness(tmp_path, monkeypatch):
    times = {"wall_s": 8.0, "time_generations_s": 6.0, "time_idle_s": 2.0}
    write(tmp_path, 0, [row(0, held_out_fitness=3.0, **times)], monkeypatch, 1000)
    (file,) = tmp_path.iterdir()
    tags = {value.tag: value.simple_value for event in events(file) for value in event.summary.value}
    assert (tags["time/share_generations"], tags["time/share_idle"]) == (0.75, 0.25)
    assert (tags["time/time_generations_s"], tags["held_out/held_out_fitness"]) == (6.0, 3.0)


def test_metrics_with_a_group_of_their_own_are_shown_there():
    assert Points(3).of({"generation": 0, "generation_s": 1.0, "inner/entropy": 0.5})["inner/entropy"] == 0.5


def test_hours_to_go_are_those_at_the_mean_pace_of_the_newest_generations():
    points = Points(101)
    assert points.of(row(0, generation_s=36.0))["time/hours_to_go"] == pytest.approx(1)
    slower = points.of(row(50, generation_s=72.0))["time/hours_to_go"]
    assert slower == pytest.approx(50 * 54 / 3600)
    assert points.of(row(100))["time/hours_to_go"] == 0
    for _ in range(PACE_GENERATIONS):
        forgotten = points.of(row(99, generation_s=36.0))["time/hours_to_go"]
    assert forgotten == pytest.approx(0.01)


@pytest.mark.slow
def test_the_tab_at_a_glance_shows_only_what_runs_write(tmp_path):
    replay = {"score": "algorithmic_regret", "buffer_size": 4}
    config = tiny(curriculum=replay, held_out={"every": 2, "levels": 2}, generations=2)
    meta_train(config, tmp_path / "run", Console(quiet=True))
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    # Scores of replayed levels have no value before the first replay.
    written = set(Points(2).of(dict.fromkeys(last, 1.0) | {"generation": 0}))
    assert {tag for tags in GLANCE.values() for tag in tags} <= written
    writer = TensorBoard(tmp_path / "tb", 2, 0, Overview(charts(config), {}, {}))
    writer.close()
    (file,) = (tmp_path / "tb").iterdir()
    (layout,) = [value for event in events(file) for value in event.summary.value]
    shown = Layout.FromString(layout.tensor.string_val[0]).category[0].chart
    assert {chart.title: tuple(chart.multiline.tag) for chart in shown} == GLANCE


def test_a_run_without_replay_has_no_charts_of_a_curriculum():
    assert charts(tiny(curriculum={"score": "algorithmic_regret", "buffer_size": 4})) == GLANCE
    for score in ("random", "frozen"):
        titles = charts(tiny(curriculum={"score": score, "buffer_size": 64}))
        assert titles.keys() == {title for title in GLANCE if "curriculum" not in title}


def test_the_card_and_every_field_of_the_configuration_are_shown_as_text(tmp_path):
    config = tiny(seed=31)
    writer = TensorBoard(tmp_path / "tb", 9, 0, make_overview(config, tmp_path))
    writer.close()
    (file,) = (tmp_path / "tb").iterdir()
    found = {value.tag: value for event in events(file) for value in event.summary.value}
    card, fields = (
        found[f"run/{name}/text_summary"].tensor.string_val[0].decode() for name in ("card", "configuration")
    )
    assert "- **seed**: 31\n" in card
    assert config.build_objective().name in card
    shown = [line.split(" | ")[0].removeprefix("| ") for line in fields.splitlines()[2:]]
    assert shown == list(flatten(to_json(config)))


def test_trials_of_a_sweep_can_be_compared_by_the_fields_that_it_varies(tmp_path):
    config = tiny()
    points = [{"es.sigma": "0.1", "seed": "1"}, {"es.sigma": "0.2", "seed": "1"}]
    plan, _ = sweep.make_plan(config, config, points)
    sweep.write_plan(tmp_path, plan)
    run = tmp_path / plan.trials[1].name
    assert make_overview(config, tmp_path / "no trial").hparams == {}
    writer = TensorBoard(run / "tb", 9, 0, make_overview(config, run))
    writer.close()
    (file,) = (run / "tb").iterdir()
    found = {
        value.tag: HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events(file)
        for value in event.summary.value
        if value.tag.startswith("_hparams_")
    }
    values = found["_hparams_/session_start_info"].session_start_info.hparams
    assert {name: value.number_value for name, value in values.items()} == {"es.sigma": 0.2, "seed": 1}
    metrics = found["_hparams_/experiment"].experiment.metric_infos
    assert "meta/fitness_mean" in {metric.name.tag for metric in metrics}


def test_wandb_shows_the_same_as_tensorboard_under_the_same_names(tmp_path, monkeypatch):
    logged = []
    run = types.SimpleNamespace(log=lambda values, step: logged.append((step, values)), finish=lambda: None)
    wandb = types.SimpleNamespace(init=lambda **_: run, Histogram=None, Image=None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    watcher = WeightsAndBiases(tiny(logging={"wandb_project": "objectives"}), tmp_path)
    rows = [row(n, replay_fraction=0.5, regret_mean=None) for n in range(2)]
    for values in rows:
        watcher.generation(values)
    points = Points(tiny().generations)
    for n, values in enumerate(rows):
        found = points.of(values)
        glance = {"fitness_mean": float(n), "replay_fraction": 0.5, "hours_to_go": found["time/hours_to_go"]}
        assert logged[n] == (n, found | {f"at a glance/{name}": value for name, value in glance.items()})


@pytest.mark.parametrize("done", [0, 2])
def test_events_of_generations_that_run_again_are_hidden(tmp_path, monkeypatch, done):
    write(tmp_path, 0, [row(n, fitness_mean=-1.0) for n in range(4)], monkeypatch, 1000)
    write(tmp_path, done, [row(n) for n in range(done, 5)], monkeypatch, 2000)
    assert shown(tmp_path) == {n: [-1.0 if n < done else float(n)] for n in range(5)}


def terminal_output(generations, done=0, tty=False, seconds=0.0, **more):
    text, clock = io.StringIO(), [0.0]
    console = Console(file=text, force_terminal=tty, width=120)
    terminal = Terminal(console, generations, done, lambda: clock[0])
    for n in range(done, generations):
        clock[0] += seconds
        terminal.generation(row(n, generation_s=seconds or 0.5, **(more if n == 7 else {})))
    terminal.close()
    return text.getvalue()


def test_without_a_terminal_about_20_plain_lines_are_printed_and_the_last_generation_is_one():
    lines = terminal_output(200).splitlines()
    assert 18 <= len(lines) <= 24
    assert lines[0] == "1 of 200 generations  fitness 0.000  2.50M env steps/s  100 s left"
    assert lines[-1].startswith("200 of 200 generations")
    assert lines[-1].endswith(" 0 s left")
    assert "\x1b" not in "".join(lines)


def test_without_a_terminal_nobody_waits_longer_than_ten_minutes_for_a_line():
    lines = terminal_output(400, seconds=301.0).splitlines()
    numbers = [int(line.split()[0]) for line in lines]
    assert max(b - a for a, b in itertools.pairwise(numbers)) == 2
    assert lines[0].endswith(" 33 h 22 min left")


def test_without_a_terminal_every_held_out_evaluation_is_a_line_with_its_value():
    lines = terminal_output(200, held_out_fitness=0.6254).splitlines()
    (line,) = [line for line in lines if "held out" in line]
    assert line.startswith("8 of 200 generations  fitness ")
    assert "  held out 0.625  " in line


def test_a_resumed_run_counts_on():
    lines = terminal_output(10, done=7).splitlines()
    assert lines[0].startswith("8 of 10 generations")


def test_on_a_terminal_there_is_one_bar_with_the_issues_four_numbers():
    text = terminal_output(3, tty=True)
    assert "generation" in text
    assert "3/3" in text
    assert "2.50M env steps/s" in text
    assert "left" in text


def test_wandb_that_is_not_installed_is_one_line_that_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = tiny(logging={"wandb_project": "objectives"})
    with pytest.raises(ConfigError, match=r"which is not installed: .*pip install .*wandb") as caught:
        make_loggers(config, tmp_path, Console(file=io.StringIO()), 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tensorboard", [True, False])
def test_a_run_has_the_watchers_that_it_is_configured_to_have(tmp_path, tensorboard):
    config = tiny(logging={"tensorboard": tensorboard})
    found = make_loggers(config, tmp_path, Console(file=io.StringIO()), 0)
    for watcher in found:
        watcher.close()
    assert [type(watcher) for watcher in found] == [TensorBoard, Terminal][not tensorboard :]
    assert (tmp_path / "tb").exists() == tensorboard
