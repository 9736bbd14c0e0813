"""What is measured side by side: programs between the same clients and the same server."""

import compileall
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from support.guard_tokens import tokens

ROOT = pathlib.Path(__file__).parents[2]
LLAMA_SWAP = "github.com/mostlygeek/llama-swap@latest"
CORES = sorted(os.sched_getaffinity(0))
PROXY_CORES, OTHER_CORES = {CORES[0]}, set(CORES[1:] or CORES)
"""The proxy has a core of its own; clients and server share the others."""


AS_THE_UNIT = {"MALLOC_MMAP_THRESHOLD_": "131072"}
"""Of the environment that llmctl-proxy.service gives to the proxy, what its memory depends on."""


class Program:
    """A running program with its children. port: where it listens."""

    def __init__(
        self, name: str, argv: list[str], port: int, *, env: dict[str, str] | None = None,
        cores: set[int] = PROXY_CORES, passed: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        self.name, self.port = name, port
        began = time.perf_counter()
        quiet = subprocess.DEVNULL
        with on_cores(cores):
            self._process = subprocess.Popen(
                argv, env=env, stdout=quiet, stderr=quiet, stdin=quiet, start_new_session=True,
                pass_fds=passed, cwd="/",
            )  # fmt: skip
        try:
            self._await_answer()
        except BaseException:
            self.stop()
            raise
        self.start_s = time.perf_counter() - began

    def _await_answer(self) -> None:
        deadline = time.monotonic() + 20
        while not answers(self.port):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not answer")
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(0.001)
                raise RuntimeError(f"{self.name} ended with {status}")

    @property
    def _processes(self) -> list[pathlib.Path]:
        """Of its session, as /proc shows them."""
        found = []
        for one in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (one / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid:
                    found.append(one)
        return found

    def cpu_s(self) -> float:
        """Seconds of CPU that it has used."""
        spent = 0
        for process in self._processes:
            for stat in process.glob("task/*/schedstat"):
                with contextlib.suppress(OSError):
                    spent += int(stat.read_text().split()[0])
        return spent / 1e9

    def memory_mb(self) -> float:
        """Its share of the memory that it uses (PSS), in MB (10^6 bytes)."""
        kib = 0
        for process in self._processes:
            with contextlib.suppress(OSError):
                lines = (process / "smaps_rollup").read_text().splitlines()
                kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return kib * 1024 / 1e6

    def stop(self) -> None:
        """End it."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """What is started meanwhile runs there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def answers(port: int) -> bool:
    """Is there one to /health? Of whatever status."""
    with socket.socket() as probe:
        probe.settimeout(20)
        try:
            probe.connect(("127.0.0.1", port))
            probe.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return probe.recv(9) == b"HTTP/1.1 "
        except OSError:
            return False


def free_port() -> int:
    """One that nobody has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def built(name: str, work: pathlib.Path) -> str:
    """One of the C programs beside this file."""
    if shutil.which("cc") is None:
        raise SystemExit("a C compiler (cc) is needed: apt-get install gcc libc6-dev")
    target = work / name
    subprocess.run(["cc", "-O2", "-o", target, ROOT / f"tests/bench/{name}.c"], check=True)
    return str(target)


def upstream(work: pathlib.Path) -> Program:
    """The server that all of them pass requests on to."""
    port = free_port()
    said = work / "said.txt"
    said.write_text("".join(f"{one}\n" for one in spoken()))
    argv = [built("upstream", work), str(port), "bench", str(said)]
    return Program("direct", argv, port, cores=OTHER_CORES)


def spoken() -> list[str]:
    """What the server says, a token each, as inside of a JSON string: our own docs, prose and code.
    One token again and again would be a loop, which the guard ends."""
    found = b"".join(path.read_bytes() for path in sorted((ROOT / "docs").rglob("*.md")))
    return [json.dumps(one.decode(errors="ignore"), ensure_ascii=False)[1:-1]
            for one in tokens(found)]  # fmt: skip


def llmctl(
    work: pathlib.Path, upstream_port: int, *, name: str = "llmctl", tree: pathlib.Path = ROOT,
    guard: str = "on",
) -> Program:  # fmt: skip
    """Our proxy before a box that never changes. tree: a checkout, to compare two. guard: the
    guard's mode."""
    port = free_port()
    compileall.compile_dir(tree / "llmctl", quiet=1)  # as an installed program is
    argv = [sys.executable, str(ROOT / "tests/bench/proxy_runner.py"), str(port)]
    env = {**os.environ, **AS_THE_UNIT, "PYTHONPATH": str(tree), "GUARD": guard}
    log = work / name / "requests.jsonl"
    return Program(name, [*argv, str(upstream_port), str(log)], port, env=env)


def llmctl_alone(work: pathlib.Path) -> Program:
    """What llmctl-proxy.service runs, before whatever systemd there is, with a socket passed as
    systemd does (sd_listen_fds(3)): it answers when it is up, not before."""
    home = work / "home"
    (home / ".config/llmctl").mkdir(parents=True, exist_ok=True)
    (home / ".config/llmctl/config.yaml").write_text("proxy: {max_wait: 20s}\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home), "LISTEN_FDS": "1"}
    env |= {**AS_THE_UNIT, "XDG_CONFIG_HOME": str(home / ".config")}
    env |= {"XDG_STATE_HOME": str(home / "state")}
    with socket.create_server(("127.0.0.1", 0)) as door:
        fd, port = door.fileno(), door.getsockname()[1]
        passing = f'exec 3<&{fd}; export LISTEN_PID=$$; exec "$@"'
        argv = ["sh", "-c", passing, "sh", sys.executable, "-m", "llmctl.proxy"]
        return Program("llmctl", argv, port, env=env, passed=(fd,))


def nginx(work: pathlib.Path, upstream_port: int) -> Program | str:
    """One worker, without buffering and without a log; a text says why it is left out."""
    binary = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if binary is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        install = ["apt-get", "install", "-y", "--no-install-recommends", "nginx-light"]
        subprocess.run(install, **quiet)  # type: ignore[call-overload]
        binary = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if binary is None:
        return "there is no nginx here, and it could not be installed"
    port = free_port()
    text = _NGINX.format(work=work, port=port, upstream=upstream_port)
    (work / "nginx.conf").write_text(text)
    argv = [binary, "-p", str(work), "-c", str(work / "nginx.conf"), "-e", str(work / "nginx.log")]
    return Program("nginx", argv, port)


_NGINX = """
daemon off; worker_processes 1; pid {work}/nginx.pid; user root;
events {{ worker_connections 4096; }}
http {{
    access_log off; client_body_buffer_size 1m; client_max_body_size 64m;
    keepalive_requests 100000000; keepalive_timeout 1h;
    client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
    uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
    upstream model {{
        server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; proxy_next_upstream error timeout non_idempotent;
        }}
    }}
}}
"""


def llama_swap(work: pathlib.Path, upstream_port: int) -> Program | str:
    """$LLAMA_SWAP, or built here; a text says why it is left out."""
    binary = os.environ.get("LLAMA_SWAP") or shutil.which("llama-swap")
    if binary is None:
        go = shutil.which("go", path=os.environ["PATH"] + ":/usr/local/go/bin")
        if go is None:
            return "there is no Go toolchain here ($LLAMA_SWAP may name the program)"
        env = {**os.environ, "GOBIN": str(work), "GOFLAGS": "-modcacherw"}
        done = subprocess.run(
            [go, "install", LLAMA_SWAP], env=env, capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            return "its modules cannot be had here ($LLAMA_SWAP may name the program)"
        binary = str(work / "llama-swap")
    port = free_port()
    (work / "llama-swap.yaml").write_text(
        "models:\n  bench:\n    cmd: sleep 86400\n"
        f"    proxy: http://127.0.0.1:{upstream_port}\n    checkEndpoint: /health\n"
    )
    argv = [binary, "-config", str(work / "llama-swap.yaml"), "-listen", f"127.0.0.1:{port}"]
    return Program("llama-swap", argv, port)
