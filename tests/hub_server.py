"""A small Hugging Face Hub on a free loopback port, with the calls that pushing and reading a model make."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test_token"
_MAIN = "main"


@dataclass
class Repository:
    """Its states by commit, each a map of paths to bytes, and the commits of its branch and tags."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str) -> str:
        found = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[found], self.refs[_MAIN] = files, found
        self.messages.append(message)
        return found

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        found = self.refs.get(revision, revision)
        return (found, self.commits[found]) if found in self.commits else None


@dataclass
class Hub:
    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)  # by sha256
    reads: list[str] = field(default_factory=list)  # the paths of read files
    received_bytes: int = 0  # in the bodies of requests
    sent_bytes: int = 0  # in the bodies of answers


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.received_bytes += len(body)
        return body

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid username or password."})
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if parts == ["api", "validate-yaml"]:
            return self._send(200, {"errors": [], "warnings": []})
        if parts[-3:] == ["lfs", "objects", "batch"]:
            return self._batch(json.loads(body))
        name, call = "/".join(parts[2:4]), parts[4]
        repository = self.hub.repositories[name]
        if call == "preupload":
            modes = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for each in json.loads(body)["files"]
            ]
            return self._send(200, {"files": modes})
        if call == "commit":
            return self._commit(name, [json.loads(line) for line in body.splitlines()])
        assert call == "tag"
        tag = json.loads(body)["tag"]
        if tag in repository.refs:
            return self._send(409, {"error": "Tag exists"})
        repository.refs[tag] = repository.refs[_MAIN]
        return self._send(200, {})

    def _create(self, wanted: dict[str, object]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            return self._send(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
        made = self.hub.repositories[name] = Repository(private=wanted.get("visibility") == "private")
        made.commit({}, "initial commit")
        return self._send(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def _batch(self, wanted: dict[str, list[dict[str, object]]]) -> None:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.hub.url}/large/{each['oid']}"}}}
            for each in wanted["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def do_PUT(self) -> None:
        body = self._body()
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self._send(200, {})

    def _commit(self, name: str, lines: list[dict[str, dict[str, str]]]) -> None:
        repository = self.hub.repositories[name]
        files = dict(repository.commits[repository.refs[_MAIN]])
        message = ""
        for line in lines:
            value, kind = line["value"], line["key"]
            if str(kind) == "header":
                message = value["summary"]
            elif str(kind) == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif str(kind) == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            else:
                assert str(kind) == "deletedFile"
                del files[value["path"]]
        commit = repository.commit(files, message)
        self._send(
            200, {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{name}/commit/{commit}"}
        )

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        is_api = parts[0] == "api"
        name = "/".join(parts[2:4] if is_api else parts[:2])
        repository = self.hub.repositories.get(name)
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not allowed):
            return self._send(401, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})
        revision = parts[5] if is_api and len(parts) > 5 else _MAIN if is_api else parts[3]
        found = repository.at(revision)
        if found is None:
            return self._send(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
        commit, files = found
        if is_api and parts[4:5] == ["tree"]:
            return self._send(
                200,
                [
                    {"type": "file", "path": path, "size": len(data), "oid": ""}
                    for path, data in files.items()
                ],
            )
        if is_api:
            siblings = [{"rfilename": path} for path in files]
            return self._send(200, {"id": name, "modelId": name, "sha": commit, "siblings": siblings})
        path = "/".join(parts[4:])
        self.hub.reads.append(path)
        return self._send_file(commit, files[path])

    def _send_file(self, commit: str, data: bytes) -> None:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        self._answer(200, data, headers)

    def _send(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        self._answer(
            status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.hub.sent_bytes += len(data)
            self.wfile.write(data)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A Hub that runs while the context lasts."""
    hub = Hub(url="")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
