"""Who the local server answers, and that a pin is the only thing it writes."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from holdfast.engine.catalog import read_catalog
from holdfast.errors import CheckpointNotFoundError, ConfigError
from holdfast.report.serve import ReportServer
from holdfast.report.serve_runs import find_runs, fingerprint
from holdfast.storage import LocalRun

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str


class Client:
    """Asks one server, as a browser would after opening its address, unless told otherwise."""

    def __init__(self, server: ReportServer) -> None:
        self.server = server
        self.host = f"127.0.0.1:{server.port}"
        opened = self.ask(urlsplit(server.address).path + "?" + urlsplit(server.address).query)
        self.cookie = opened.headers["Set-Cookie"].partition(";")[0]
        self.opened = opened

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Answer:
        """One request with exactly these headers besides Host."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request(method, path, body, {"Host": self.host, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
        finally:
            connection.close()

    def page(self, path: str, **headers: str) -> Answer:
        """A page, with the cookie."""
        return self.ask(path, {"Cookie": self.cookie, **headers})

    def write_token(self) -> str:
        """As a page of the server holds it."""
        text = self.page("/").text
        begin = text.index('id="live">') + len('id="live">')
        token: str = json.loads(text[begin : text.index("</script>", begin)])["token"]
        return token

    def pin(self, changes: Mapping[str, str | None], **fields: object) -> Answer:
        """A pin with all that a page of the server sends; `changes` replace or drop headers."""
        asked = {"run": "one", "checkpoint": "", "reason": "a test", **fields}
        headers = {
            "Cookie": self.cookie,
            "Content-Type": "application/json",
            "Origin": f"http://{self.host}",
            "Sec-Fetch-Site": "same-origin",
            "X-Holdfast-Token": self.write_token(),
            **changes,
        }
        sent = {name: value for name, value in headers.items() if value is not None}
        return self.ask("/pin", sent, method="POST", body=json.dumps(asked).encode())


@pytest.fixture
def root(finished_run: Path, tmp_path: Path) -> Path:
    """A folder with two copies of the finished run in it, one of them deeper."""
    shutil.copytree(finished_run, tmp_path / "one", symlinks=True)
    shutil.copytree(finished_run, tmp_path / "deep" / "er" / "two", symlinks=True)
    return tmp_path


@pytest.fixture
def client(root: Path) -> Iterator[Client]:
    """A client of a server over that folder."""
    with ReportServer(root) as server:
        yield Client(server)


def pins(root: Path) -> dict[str, str | None]:
    """Pinned, by checkpoint, in the first run."""
    return {info.name: info.pinned for info in read_catalog(LocalRun(root / "one")).infos}


def test_the_runs_under_a_folder_are_found_at_any_depth(root: Path) -> None:
    """Folders with checkpoints or a history are runs; links, hidden ones and their insides not."""
    (root / ".hidden" / "checkpoint_x").mkdir(parents=True)
    (root / "young").mkdir()
    (root / "young" / "history.jsonl").touch()
    (root / "link").symlink_to(root / "one")
    assert list(find_runs(root)) == ["deep/er/two", "one", "young"]
    assert list(find_runs(root / "one")) == ["."]


def test_a_run_looks_changed_exactly_when_it_did(root: Path) -> None:
    """New lines, pins and deletions change the fingerprint; reading does not."""
    run = LocalRun(root / "one")
    seen = [fingerprint(root / "one")]
    assert fingerprint(root / "one") == seen[0]
    run.append_line("history.jsonl", b"{}")
    seen.append(fingerprint(root / "one"))
    run.discard(run.names()[0])
    seen.append(fingerprint(root / "one"))
    assert len(set(seen)) == 3


def test_the_printed_address_opens_the_pages_and_nothing_else_does(client: Client) -> None:
    """Without the token, or with a wrong cookie, there is nothing to read but the looks."""
    assert client.opened.status == 303
    assert client.opened.headers["Location"] == "/"
    assert "HttpOnly" in client.opened.headers["Set-Cookie"]
    assert "SameSite=Strict" in client.opened.headers["Set-Cookie"]
    for headers in ({}, {"Cookie": "holdfast=1"}, {"Cookie": client.cookie + "x"}):
        for path in ("/", "/run/one", "/compare?run=one", "/?token=guess"):
            refused = client.ask(path, headers)
            assert refused.status == 401
            assert "translate" not in refused.text
    assert client.page("/").status == 200
    assert "one" in client.page("/").text
    assert client.page("/run/one").status == 200
    assert client.page("/run/deep/er/two").status == 200
    assert "2 runs" in client.page("/compare?run=one&run=deep%2Fer%2Ftwo").text


@pytest.mark.parametrize(
    "path",
    [
        *("/run/", "/run/none", "/run/..", "/run/one/..", "/run/%2e%2e/one", "/run//etc"),
        *(
            "/compare",
            "/compare?run=none",
            "/assets/",
            "/assets/..%2fpage.py",
            "/assets/live.js.map",
        ),
        *("/pin", "/one/history.jsonl", "/run/one%00"),
    ],
)
def test_only_known_names_lead_anywhere(client: Client, path: str) -> None:
    """No path reaches a file: runs are looked up by name, assets in a list."""
    assert client.page(path).status == 404


def test_another_name_for_the_server_is_refused(client: Client) -> None:
    """A host name that somebody made to point here gets nothing, whatever it brings along."""
    for host in ("evil.example", f"evil.example:{client.server.port}", "127.0.0.1", ""):
        answer = client.page("/", Host=host)
        assert answer.status in (400, 421)
        assert "Compare" not in answer.text
    assert client.page("/", Host=f"localhost:{client.server.port}").status == 200


def test_every_answer_carries_a_strict_policy(client: Client) -> None:
    """No foreign script, frame, form or referrer, and no guessing of types."""
    for path in ("/", "/run/one", "/assets/report.js", "/run/none"):
        headers = client.page(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers


def test_a_pin_is_set_and_taken_away(client: Client, root: Path) -> None:
    """What a page of the server sends pins a checkpoint with its reason, and unpins it."""
    name = list(pins(root))[-1]
    assert client.pin({}, checkpoint=name).status == 200
    assert pins(root)[name] == "a test"
    assert client.pin({}, checkpoint=name, reason=None).status == 200
    assert pins(root)[name] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"Cookie": None},
        {"X-Holdfast-Token": None},
        {"X-Holdfast-Token": "0" * 64},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_nobody_else_pins(client: Client, root: Path, changes: Mapping[str, str | None]) -> None:
    """Without cookie or token, or from another origin, a pin is refused and nothing changes."""
    before = pins(root)
    assert client.pin(changes, checkpoint=list(before)[-1]).status == 403
    assert pins(root) == before


def test_nothing_but_pins_of_known_checkpoints_is_written(client: Client, root: Path) -> None:
    """Wrong names, wrong forms, long bodies and other methods change no file."""
    files = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}
    name = list(pins(root))[-1]
    assert client.pin({}, checkpoint="../../one/" + name).status == 404
    assert client.pin({}, checkpoint=name, run="../one").status == 404
    assert client.pin({}, checkpoint=name, reason="  ").status == 400
    assert client.pin({}, checkpoint=name, reason=3).status == 400
    assert client.pin({}, checkpoint=name, reason="x" * 20_000).status == 400
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert client.ask("/pin", {"Cookie": client.cookie}, method=method).status == 501
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()} == files


def test_an_unchanged_page_is_not_sent_again(client: Client, root: Path) -> None:
    """Asking again costs a few hundred bytes until something changes."""
    first = client.page("/run/one")
    again = client.page("/run/one", **{"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.text) == (304, "")
    LocalRun(root / "one").append_line("history.jsonl", b"{}")
    assert client.page("/run/one", **{"If-None-Match": first.headers["ETag"]}).status == 200


def test_addresses_that_others_reach_must_be_wanted(root: Path) -> None:
    """Only loopback addresses are taken without a word; a folder that is missing is said so."""
    with pytest.raises(ConfigError, match="other machines"):
        ReportServer(root, host="0.0.0.0")
    with pytest.raises(CheckpointNotFoundError):
        ReportServer(root / "none")
    with ReportServer(root) as server, pytest.raises(ConfigError, match="cannot be had"):
        ReportServer(root, port=server.port)


def test_the_command_prints_the_address_and_ends_when_asked(root: Path) -> None:
    """`holdfast ui` says where to look, serves it, and stops cleanly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast.cli", "ui", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = urlsplit(line.split()[1])
        connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=30)
        connection.request("GET", f"/?{address.query}")
        assert connection.getresponse().status == 303
        connection.close()
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
