"""The command line: verbs, exit statuses, and what reaches which stream."""

import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from headstart.configs.settings import load
from headstart.pipeline.cli import main
from headstart.stages.access import hash_of

SECRET = "0123456789abcdef"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(f"models: [{{name: fake, engine: fake}}]\ndata_plane: {{secret: {SECRET!r}}}\n")
    return path


def test_config_prints_what_is_in_effect_with_secrets_masked(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_GATEWAY__PORT", "1")
    monkeypatch.setenv("HEADSTART_GATEWAY__MAX_STREAMS", "7")

    status = main(["config", "--config", str(config), "--set", "gateway.port=2"])

    out = capsys.readouterr().out
    assert status == 0
    assert SECRET not in out
    shown = yaml.safe_load(out)
    assert (shown["gateway"]["port"], shown["gateway"]["max_streams"]) == (2, 7)
    assert shown["models"][0]["fake"]["tokens_per_step"] == 1


def test_without_a_file_the_laptop_profile_is_in_effect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0

    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["models"][0]["source"] == "builtin:smollm2-135m-instruct"


@pytest.mark.parametrize(
    "verb", [["serve"], ["config"], ["model", "prepare"], ["bench", "overhead", "--json", "out"]]
)
def test_wrong_setting_is_one_line_and_status_2(
    verb: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([*verb, "--config", str(config), "--set", "gateway.prot=1"])

    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith("error: gateway.prot: unknown key; allowed here: host, port")
    assert captured.err.count("\n") == 1


def test_each_wrong_setting_is_a_line_of_error(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--set", "gateway.port=x", "--set", "gateway.max_streams=y"]

    assert main(["config", "--config", str(config), *flags]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": must")[0] for line in lines] == [
        "error: gateway.port",
        "error: gateway.max_streams",
    ]


def test_speculation_is_off_as_yaml_has_it(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = "models=[{name: a, source: b, speculation: {default: off}}]"

    assert main(["config", "--config", str(config), "--set", flag]) == 0

    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["models"][0]["speculation"]["default"] == "off"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "VERB"),
        (["bench", "nothing", "--json", "out"], "overhead"),
        (["bench", "overhead"], "--json"),
        (["dashboards"], "--write --check"),
    ],
)
def test_wrong_usage_says_what_is_missing(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)

    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_help_lists_the_verbs_that_people_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    out = capsys.readouterr().out
    verbs = ("serve", "doctor", "config", "model", "keys", "bench", "dashboards")
    assert all(verb in out for verb in verbs)
    assert "gateway" not in out


def test_dashboards_are_written_and_found_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--folder", str(tmp_path)]

    assert main(["dashboards", "--check", *folder]) == 1
    assert "overview.json is stale" in capsys.readouterr().err
    assert main(["dashboards", "--write", *folder]) == 0
    assert main(["dashboards", "--check", *folder]) == 0


def test_new_key_is_shown_once_and_its_entry_is_a_setting(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "new", "alice", "--models", "fake", "--tokens-per-minute", "9"]) == 0

    captured = capsys.readouterr()
    key = captured.err.split("\n")[0]
    path = tmp_path / "keys.yaml"
    path.write_text(captured.out)
    (entry,) = load(config, [f"access.keys_file={path}"], {}).access.keys
    assert key not in captured.out
    assert (entry.id, entry.models, entry.tokens_per_minute) == ("alice", ("fake",), 9)
    assert (entry.hash, entry.live) == (hash_of(key), False)
    assert len(key) > 40


def test_no_two_keys_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["keys", "new", "alice", "--live"]) == 0

    captured = capsys.readouterr()
    assert len(set(captured.err.split("\n"))) == 4  # two keys, one remark, the empty end
    assert captured.out.count("live: true") == 2


def test_key_that_no_setting_allows_is_not_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "two words", "--max-concurrent", "0"]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "id: must match" in captured.err
    assert "max_concurrent: must be greater" in captured.err


def test_fake_model_needs_no_preparation(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "prepare", "--config", str(config)]) == 0
    assert capsys.readouterr().out == ""


def _script() -> str:
    return str(Path(sys.executable).with_name("headstart"))


def test_console_script_tells_the_installed_version() -> None:
    out = subprocess.run(
        [_script(), "--version"], capture_output=True, text=True, check=True
    ).stdout

    assert out == f"headstart {metadata.version('headstart')}\n"


def test_settings_are_shown_without_loading_an_engine() -> None:
    heavy = ["ray", "vllm", "torch", "zmq", "uvicorn", "starlette", "prometheus_client"]
    code = (
        "import sys; from headstart.pipeline.cli import main; main(['config']);"
        f"sys.exit(sorted(sys.modules.keys() & set({heavy})) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "settings.yaml"
    os.mkfifo(fifo)
    with subprocess.Popen(
        [_script(), "config", "--config", str(fifo)],
        stderr=subprocess.PIPE,
        # A test run in the background ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        with fifo.open("w"):  # returns when the command has begun to read
            process.send_signal(signal.SIGINT)
            process.wait(timeout=15)
        assert process.stderr is not None
        assert (process.returncode, process.stderr.read()) == (130, b"")


@pytest.mark.parametrize(
    ("verb", "module", "extras"),
    [
        (["serve"], "structlog", ["headstart[cpu]", "headstart[gpu]"]),
        (["model", "prepare"], "structlog", ["headstart[cpu]", "headstart[gpu]"]),
        (["bench", "overhead", "--json", "out"], "structlog", ["headstart[cpu]", "headstart[gpu]"]),
        (["dashboards", "--check"], "grafana_foundation_sdk", ["headstart[dev,server]"]),
    ],
)
def test_package_that_is_not_installed_is_one_line_with_its_extra(
    verb: list[str], module: str, extras: list[str]
) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None;"
        "from headstart.pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, *verb], capture_output=True, text=True, check=False
    )

    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"error: {module} is not installed")
    assert all(extra in line for extra in extras)


def test_reader_that_leaves_ends_it_quietly() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [_script(), "config", "--table"], stdout=write_end, stderr=subprocess.PIPE, check=False
    )
    os.close(write_end)

    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("form", [[], ["--table"]], ids=["short", "long"])
def test_full_device_is_one_line(form: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [_script(), "config", *form], stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert done.returncode == 2
    assert done.stderr == b"error: the output cannot be written: No space left on device\n"


def test_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    assert main(["dashboards", "--write", "--folder", str(tmp_path / "file" / "x")]) == 2

    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path}/file/x: cannot be written: Not a directory"
    ]


def test_page_where_a_file_is_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, file = tmp_path / "found", tmp_path / "file"
    found.mkdir()
    asked = dict.fromkeys(("prompts", "metric", "block_tokens", "engine", "dtype"), "x")
    tree = {"asked": asked, "arms": {"base": {}}}
    (found / "figures.json").write_text(json.dumps(tree))
    file.touch()

    assert main(["results", "consistency", "--from", str(found), "--to", str(file)]) == 2

    assert capsys.readouterr().err.splitlines() == [
        f"error: {file}: File exists: give another --to"
    ]


def test_gateway_child_settings_survive_a_pipe(config: Path) -> None:
    settings = load(config, [], {})
    code = (
        "import sys; from headstart.configs.settings import Settings;"
        "print(Settings.from_child(sys.stdin.readline()).to_child(), end='')"
    )

    out = subprocess.run(
        [sys.executable, "-c", code],
        input=settings.to_child() + "\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert out == settings.to_child()
    assert SECRET in out
