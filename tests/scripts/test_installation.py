"""The wheel beside projects and packages that have folders named as ours."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rl_discovery

ROOT = Path(__file__).parents[2]
FOLDERS = ("discovery", "envs", "meta", "checkpoints", "evaluation", "scripts")
OURS = ("pyproject.toml", "README.md", "LICENSE", "rl_discovery", *FOLDERS)
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in OURS:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("dist")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(source))
    subprocess.run([*PIP, *build], check=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """The wheel, installed after another one that ships scripts/cli.py."""
    site = tmp_path_factory.mktemp("site")
    theirs = tmp_path_factory.mktemp("theirs") / "scripts_of_somebody-1.0-py3-none-any.whl"
    with zipfile.ZipFile(theirs, "w") as file:
        for name, text in {
            "scripts/__init__.py": "",
            "scripts/cli.py": "raise SystemExit('the wrong command line')",
            "scripts_of_somebody-1.0.dist-info/METADATA": (
                "Metadata-Version: 2.1\nName: scripts-of-somebody\nVersion: 1.0\n"
            ),
            "scripts_of_somebody-1.0.dist-info/WHEEL": (
                "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            ),
            "scripts_of_somebody-1.0.dist-info/RECORD": "",
        }.items():
            file.writestr(name, text)
    for path in (theirs, wheel):
        subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", site, path], check=True)
    return site


@pytest.fixture
def project(tmp_path):
    """A project whose folders have our folders' names, and cannot be imported."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            f"WHOSE = 'theirs'\nraise RuntimeError('{name} of the project')"
        )
    return tmp_path


def ran(command, project, *paths):
    """The output of a command in the project, with these folders on Python's path."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wheel_ships_one_package_with_its_data_and_nothing_beside_it(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"rl_discovery"}
    assert {"rl_discovery/py.typed", "rl_discovery/checkpoints/shipped/ta-lpg.safetensors"} <= {*names}
    assert any(name.startswith("rl_discovery/evaluation/report/page/") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--version",), ("list", "presets"), ("list", "envs"), ("doctor",)])
def test_folders_of_a_project_do_not_hide_the_command_line(site, project, arguments):
    command = [sys.executable, site / "bin" / "rl-discovery", *arguments]
    assert ran(command, project, project, site)


@pytest.mark.slow
def test_a_program_in_such_a_project_uses_the_library(site, project):
    code = (
        "import rl_discovery as rld\n"
        "env, level = rld.make_env('gridworld/dense')\n"
        "agent, history = rld.train(rld.load_objective('ta-lpg'), env, level, horizon=1, evaluations=1)\n"
        "print(rld.__file__, len(history['return']))\n"
    )
    file, count = ran([sys.executable, "-c", code], project, project, site).split()
    assert Path(file).is_relative_to(site)
    assert count == "1"


@pytest.mark.slow
def test_every_module_can_be_imported_in_such_a_project(site, project):
    code = (
        "import importlib, pkgutil, rl_discovery\n"
        "for module in pkgutil.walk_packages(rl_discovery.__path__, 'rl_discovery.'):\n"
        "    importlib.import_module(module.name)\n"
        "    print(module.name)\n"
    )
    names = ran([sys.executable, "-c", code], project, project, site).split()
    assert len(names) > 100
    assert "rl_discovery.evaluation.store" in names


@pytest.fixture(scope="module")
def plugin(site, tmp_path_factory):
    """The example package beside the wheel."""
    source = tmp_path_factory.mktemp("plugin") / "plugin"
    shutil.copytree(ROOT / "examples" / "plugin", source)
    to = ("install", "--no-deps", "--no-build-isolation", "--no-index", "--target", site, source)
    subprocess.run([*PIP, *to], check=True)
    return site


@pytest.mark.slow
@pytest.mark.e2e
def test_every_command_takes_what_a_package_brings(plugin, project):
    def rl_discovery(*words):
        return ran([sys.executable, plugin / "bin" / "rl-discovery", *words], project, project, plugin)

    assert "corridor/short" in rl_discovery("list", "envs")
    assert "learned-parabola" in rl_discovery("list", "objectives")
    assert "relative_regret" in rl_discovery("list", "scores")
    run = ("--run-dir", "runs/parabola", "--generations", "2", "--logging.no-tensorboard")
    tiny = ("--es.pairs", "4", "--es.group-size", "2", "--agent.workers", "4")
    short = ("--levels.longest-horizon", "12", "--held-out.levels", "4")
    rl_discovery(
        *("meta-train", "--preset", "lpo-cpu", "--objective.kind", "learned-parabola"),
        *("--objective.scale", "1.0"),
        *("--levels.distribution", "corridor/short", "--curriculum.score", "relative_regret"),
        *("--curriculum.buffer-size", "16", *tiny, *short, *run),
    )
    rl_discovery(
        *("evaluate", "runs/parabola", "--suite", "corridors", "--horizons", "4", "--levels", "2"),
        *("--seeds", "2", "--baselines", "parabola", "--out", "runs/parabola/evaluation"),
    )
    rl_discovery("report", "runs/parabola")
    assert "corridor" in (project / "runs" / "parabola" / "report.html").read_text()


def test_the_face_has_what_it_promises_and_nothing_is_imported_before_it_is_used(project):
    code = (
        "import sys, rl_discovery as rld\nassert not {'jax', 'numpy'} & sys.modules.keys()\nprint(*dir(rld))"
    )
    names = ran([sys.executable, "-c", code], project, ROOT).split()
    assert {*rl_discovery.__all__} <= {*names}
    for name in names:
        assert getattr(rl_discovery, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        rl_discovery.trian  # noqa: B018
