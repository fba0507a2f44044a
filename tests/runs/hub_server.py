"""A small Hub on localhost for the real client: repositories in memory, uploads by commit and LFS, downloads, faults."""

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import yaml


def git_oid(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@dataclass
class Fault:
    """The next `times` requests that match get this status, or no answer for `hang` seconds."""

    method: str
    path: str
    times: int
    status: int = 500
    hang: float = 0.0
    body: dict = field(default_factory=lambda: {"error": "planned"})


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()


class Hub(ThreadingHTTPServer):
    """Start it with `with`; `url` goes into HF_ENDPOINT."""

    daemon_threads = True

    def __init__(self, token: str = "hf_placeholder") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token, self.repositories, self.objects = token, {}, {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, content: object = None, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content if content is not None else {}).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_anything(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        path = unquote(urlparse(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        for fault in self.server.faults:
            if fault.times and fault.method == self.command and re.search(fault.path, path):
                fault.times -= 1
                if fault.hang:
                    time.sleep(fault.hang)
                return self.answer(fault.status, fault.body)
        if not path.startswith("/lfs/") and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self.answer(401, {"error": "Invalid credentials"})
        for method, pattern, handle in ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                return handle(self, body, *match.groups())
        return self.answer(404, {"error": f"no route for {self.command} {path}"})

    do_GET = do_POST = do_PUT = do_HEAD = do_anything

    # ---- uploads

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
        known = name in self.server.repositories
        self.server.repositories.setdefault(name, Repository(wanted.get("private") or wanted.get("visibility") == "private"))
        self.answer(409 if known else 200, {"url": f"{self.server.url}/{name}", "name": name, "error": "exists"})

    def validate(self, body: bytes) -> None:
        """What the Hub checks of a card that matters here: metadata that YAML reads, a model-index of the right shape."""
        content = json.loads(body)["content"]
        errors = []
        try:
            metadata = yaml.safe_load(content.split("---")[1])
            for entry in metadata.get("model-index") or ():
                for result in entry["results"]:
                    assert result["task"]["type"]
                    assert result["dataset"]["type"]
                    assert result["dataset"]["name"]
                    assert all(metric["type"] and isinstance(metric["value"], float) for metric in result["metrics"])
        except Exception as error:
            errors = [{"message": repr(error)}]
        self.answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def preupload(self, body: bytes, name: str) -> None:
        files = self.server.repositories[name].files
        modes = []
        for each in json.loads(body)["files"]:
            content, large = files.get(each["path"]), each["path"].endswith((".safetensors", ".spm"))
            oid = None if content is None else hashlib.sha256(content).hexdigest() if large else git_oid(content)
            mode = "lfs" if large else "regular"
            modes.append({"path": each["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.answer(200, {"files": modes})

    def lfs_batch(self, body: bytes, name: str) -> None:
        objects = []
        for each in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}
            objects.append({**each, **({} if each["oid"] in self.server.objects else {"actions": upload})})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.objects[oid] = body
        self.answer(200)

    def commit(self, body: bytes, name: str) -> None:
        repository, paths = self.server.repositories[name], []
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                repository.files[value["path"]] = self.server.objects[value["oid"]]
            if entry["key"] != "header":
                paths.append(value["path"])
        repository.commits.append(paths)
        url = f"{self.server.url}/{name}/commit/{repository.sha}"
        self.answer(200, {"success": True, "commitOid": repository.sha, "commitUrl": url})

    # ---- downloads

    def info(self, body: bytes, name: str, revision: str | None) -> None:
        repository = self.server.repositories.get(name)
        if repository is None:
            return self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if revision not in (None, "main", repository.sha):
            return self.answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": path} for path in repository.files]
        self.answer(200, {"id": name, "sha": repository.sha, "private": repository.private, "siblings": siblings, "tags": []})
        return None

    def tree(self, body: bytes, name: str) -> None:
        files = self.server.repositories[name].files
        rows = [{"type": "file", "path": p, "size": len(c), "oid": git_oid(c)} for p, c in files.items()]
        self.answer(200, rows)

    def resolve(self, body: bytes, name: str, path: str) -> None:
        repository = self.server.repositories.get(name)
        content = repository.files.get(path) if repository else None
        if content is None:
            return self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{git_oid(content)}"', "X-Repo-Commit": repository.sha, "Accept-Ranges": "bytes"}
        self.answer(200, content, headers)
        return None


NAME = r"([^/]+/[^/]+)"
ROUTES = [
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("POST", f"/api/models/{NAME}/preupload/[^/]+", Handler.preupload),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", "/lfs/([0-9a-f]+)", Handler.lfs_put),
    ("POST", f"/api/models/{NAME}/commit/[^/]+", Handler.commit),
    ("GET", f"/api/models/{NAME}/tree/.+", Handler.tree),
    ("GET", f"/api/models/{NAME}(?:/revision/([^/]+))?", Handler.info),
    ("GET", rf"/{NAME}/resolve/[^/]+/(.+)", Handler.resolve),
    ("HEAD", rf"/{NAME}/resolve/[^/]+/(.+)", Handler.resolve),
]
