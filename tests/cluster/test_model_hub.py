"""Models by Hugging Face id, against a small hub of our own on loopback."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from headstart.cluster import model_source
from headstart.cluster.model_source import resolve
from headstart.stages.errors import SetupError

COMMIT = "0" * 39 + "1"


@dataclass
class Hub:
    """Serves one model, `org/tiny`."""

    folder: Path
    url: str = ""
    status: int = 200
    """Of every answer, where it is not 200."""
    error_code: str = ""
    paths: list[str] = field(default_factory=list)
    """What has been asked for."""

    def answer(self, path: str) -> bytes | None:
        files = {file.name: file for file in self.folder.iterdir()}
        if path in ("/api/models/org/tiny", "/api/models/org/tiny/revision/main"):
            siblings = [{"rfilename": name} for name in files]
            return json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode()
        if path.startswith(f"/api/models/org/tiny/tree/{COMMIT}"):
            return json.dumps(
                [
                    {
                        "type": "file",
                        "path": name,
                        "size": file.stat().st_size,
                        "oid": sha256(file.read_bytes()).hexdigest()[:40],
                    }
                    for name, file in files.items()
                ]
            ).encode()
        if path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
            return files[path.rpartition("/")[2]].read_bytes()
        return None


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.paths.append(self.path)
            body = hub.answer(self.path)
            status = 404 if body is None else hub.status
            if body is None or status != 200:
                body = b""
            self.send_response(status)
            if hub.error_code or status == 404:
                self.send_header("X-Error-Code", hub.error_code or "RepoNotFound")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{sha256(body).hexdigest()[:40]}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  the server finds its methods by these names

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    return Handler


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub(tmp_path / "hub")
    hub.folder.mkdir()
    for file in tiny_model.iterdir():
        (hub.folder / file.name).hardlink_to(file)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub)) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        _use(hub.url, tmp_path, monkeypatch)
        yield hub
        server.shutdown()


def _use(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))


def test_a_model_is_downloaded_once_and_still_there_without_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub.folder / "consolidated.safetensors").write_bytes(b"the same weights again")
    (hub.folder / "picture.png").write_bytes(b"not part of the model")
    folder = resolve("org/tiny", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == (
        hub.folder / "model.safetensors"
    ).read_bytes()
    assert not any("consolidated" in path or "picture" in path for path in hub.paths)

    hub.paths.clear()
    assert resolve("org/tiny", tmp_path) == folder
    assert not any("/resolve/" in path for path in hub.paths)

    _use("http://127.0.0.1:1", tmp_path, monkeypatch)
    assert resolve("org/tiny", tmp_path) == folder


def test_an_unknown_model_is_one_error(hub: Hub, tmp_path: Path) -> None:
    assert hub.status == 200
    with pytest.raises(SetupError, match="check the name"):
        resolve("org/unknown", tmp_path)


def test_a_gated_model_says_how_to_get_in(hub: Hub, tmp_path: Path) -> None:
    hub.status, hub.error_code = 403, "GatedRepo"
    with pytest.raises(SetupError, match="hf auth login"):
        resolve("org/tiny", tmp_path)


def test_a_model_without_weights_is_refused_before_any_download(hub: Hub, tmp_path: Path) -> None:
    (hub.folder / "model.safetensors").rename(hub.folder / "model.gguf")
    with pytest.raises(SetupError, match=r"download a \.gguf file"):
        resolve("org/tiny", tmp_path)
    assert not any("/resolve/" in path for path in hub.paths)


def test_a_damaged_model_on_the_hub_is_refused(hub: Hub, tmp_path: Path) -> None:
    (hub.folder / "tokenizer.json").unlink()
    with pytest.raises(SetupError, match="holds no tokenizer"):
        resolve("org/tiny", tmp_path)


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_failing_hub_is_one_error(status: int, hub: Hub, tmp_path: Path) -> None:
    hub.status = status
    with pytest.raises(SetupError, match=r"check the (network|name)"):
        resolve("org/tiny", tmp_path)


@pytest.mark.timeout(600)
def test_a_hub_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_source, "HUB_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        _use(f"http://127.0.0.1:{deaf.getsockname()[1]}", tmp_path, monkeypatch)
        with pytest.raises(SetupError, match="check the network"):
            resolve("org/tiny", tmp_path)


def test_a_malformed_id_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="check the name"):
        resolve("org/a..b", tmp_path)
