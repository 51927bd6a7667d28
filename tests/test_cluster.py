"""The job files of docs/cluster: whole, consistent in themselves, and with flags that meta-train has."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from rl_discovery.scripts.arguments import UsageError
from rl_discovery.scripts.meta_train import parse_arguments

FOLDER = Path(__file__).parent.parent / "docs" / "cluster"
SCRIPT, MANIFEST, UNIT = (FOLDER / name for name in ("slurm.sh", "kubernetes.yaml", "rl-discovery.service"))


def accepted(arguments):
    """What meta-train makes of these arguments."""
    return parse_arguments([str(argument) for argument in arguments])


def seconds(text):
    return int(re.fullmatch(r"(\d+)", text).group(1))


@pytest.fixture(scope="module")
def manifest():
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    kinds = {document["kind"]: document for document in documents}
    assert len(kinds) == len(documents) == 3
    return kinds


@pytest.fixture(scope="module")
def unit():
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str
    parser.read_string(UNIT.read_text())
    return parser


def test_flags_that_meta_train_lacks_would_be_noticed():
    with pytest.raises(UsageError):
        accepted(["--preset", "ta-lpg", "--no-such-flag", "1"])


def test_the_slurm_script_is_bash():
    assert SCRIPT.read_text().startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, SCRIPT], check=True)


def test_the_slurm_script_survives_the_signal_and_requeues_on_143_alone():
    text = SCRIPT.read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.M))
    assert {"requeue", "signal", "open-mode", "time"} <= options.keys()
    assert re.fullmatch(r"TERM@\d+", options["signal"]), "B: would reach the script alone, not the tasks"
    assert options["open-mode"] == "append", "a requeued job would empty its own log"
    assert text.index("trap : TERM") < text.index('srun "$RL_DISCOVERY"')
    assert re.search(r'"\$status" -eq 143 \]; then\n[^\n]*\n +scontrol requeue "\$SLURM_JOB_ID"', text)


def run_script(tmp_path, status):
    """The script with a cluster of two stubs; its own status, and what it asked scontrol."""
    (tmp_path / "srun").write_text(f'#!/bin/bash\necho "$@" >"{tmp_path}/ran"\nexit {status}\n')
    (tmp_path / "scontrol").write_text(f'#!/bin/bash\necho "$@" >"{tmp_path}/asked"\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", SCRIPT, "--preset", "ta-lpg-cpu", "--run-dir", "runs/a b"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"},
        capture_output=True,
    )
    asked = tmp_path / "asked"
    return done.returncode, asked.read_text().strip() if asked.exists() else None


@pytest.mark.parametrize(
    ("status", "asked"), [(0, None), (1, None), (2, None), (3, None), (143, "requeue 7")]
)
def test_the_slurm_script_asks_to_be_requeued_only_by_a_run_that_was_stopped(tmp_path, status, asked):
    assert run_script(tmp_path, status) == (status, asked)
    ran = (tmp_path / "ran").read_text()
    assert ran == ".venv/bin/rl-discovery meta-train --preset ta-lpg-cpu --run-dir runs/a b\n"


def test_the_job_finds_its_coordinator_and_numbers_its_processes(manifest):
    service, job = manifest["Service"], manifest["Job"]
    assert (job["apiVersion"], service["apiVersion"]) == ("batch/v1", "v1")
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    assert container["command"] == ["rl-discovery", "meta-train"]
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    port = service["spec"]["ports"][0]["port"]
    assert flags["coordinator"] == f"{name}-0.{service['metadata']['name']}:{port}"
    assert flags["process-id"] == "$(JOB_COMPLETION_INDEX)"
    assert int(flags["num-processes"]) == spec["completions"] == spec["parallelism"]
    found = accepted(a.replace("$(JOB_COMPLETION_INDEX)", "3") for a in container["args"])
    assert (found.process_id, found.num_processes) == (3, 4)


def test_the_job_keeps_the_run_directory_and_has_time_to_save(manifest):
    pod = manifest["Job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    claim = manifest["PersistentVolumeClaim"]["metadata"]["name"]
    assert (mount["name"], volume["persistentVolumeClaim"]["claimName"]) == (volume["name"], claim)
    assert str(accepted(a for a in container["args"] if "run-dir" in a).run_dir).startswith(
        mount["mountPath"]
    )
    assert pod["terminationGracePeriodSeconds"] >= 300
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


def test_the_job_goes_on_after_a_stop_and_ends_where_it_would_fail_again(manifest):
    spec = manifest["Job"]["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "podFailurePolicy wants it"
    rules = {}
    for rule in spec["podFailurePolicy"]["rules"]:
        for status in rule.get("onExitCodes", {}).get("values", ["disruption"]):
            rules[status] = rule["action"]
    assert rules == {"disruption": "Ignore", 143: "Ignore", 2: "FailJob", 3: "FailJob"}


def test_the_unit_starts_a_command_that_exists_and_stops_it_with_time_to_save(unit):
    service = unit["Service"]
    program, command, *arguments = service["ExecStart"].split()
    assert (Path(program).name, command) == ("rl-discovery", "meta-train")
    found = accepted(arguments)
    assert not found.run_dir.is_absolute()
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert service["KillSignal"] == "SIGTERM"
    assert seconds(service["TimeoutStopSec"]) >= 300
    assert service["Restart"] == "on-failure"
    assert "143" in service["RestartForceExitStatus"].split()
    assert {"2", "3"} <= set(service["RestartPreventExitStatus"].split())
    assert service["NoNewPrivileges"] == "yes"


def test_systemd_takes_the_unit(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/rl-discovery/.venv/bin/rl-discovery", "/bin/true"))
    done = subprocess.run([analyze, "verify", copy], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
