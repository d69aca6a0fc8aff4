"""The process of `injection.Server`: imports the libraries, and forks for each case."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.faults.injection import LISTENER, Fault, Injector


def main() -> None:
    injector = Injector(sys.argv[1])
    _import(sys.argv[2:])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        task = json.loads(line)
        answer = _import(task["import"]) if "import" in task else _serve(task, injector)
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


def _import(names: list[str]) -> dict[str, Any]:
    for name in names:
        if name not in sys.modules and name != "__main__":
            with contextlib.suppress(BaseException):  # one that only its own package can import
                importlib.import_module(name)
    return {}


def _serve(task: dict[str, Any], injector: Injector) -> dict[str, Any]:
    scratch = Path(task["scratch"])
    out, err, traced = (scratch / name for name in ("out", "err", "trace"))
    traced.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _child(task, injector, out, err, traced)
    code = _wait(child, task["timeout"])
    trace = json.loads(traced.read_text()) if traced.exists() else []
    texts = {name: path.read_bytes().decode(errors="replace") for name, path in
             (("out", out), ("err", err))}  # fmt: skip
    return {"code": code, "calls": injector.calls(), "trace": trace, **texts}


def _wait(child: int, seconds: float) -> int | None:
    handle = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([handle], [], [], seconds)
    finally:
        os.close(handle)
    if not ready:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _child(task: dict[str, Any], injector: Injector, out: Path, err: Path, traced: Path) -> None:
    code = 1
    trace: list[tuple[str, str, str]] = []
    try:
        os.chdir(task["folder"])
        for path, handle in ((out, 1), (err, 2)):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(opened, handle)
            os.close(opened)
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os.environ.update(task["environment"])
        sys.argv = ["mmtune", *task["work"]]
        fault = Fault(**task["fault"])
        if fault.event:
            _kill_at(fault)
            fault = Fault()
        heard = LISTENER(_listener(trace, task["folder"])) if task["trace"] else None
        injector.arm(task["folder"], fault, heard)
        code = _command(task["work"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        injector.disarm()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        if task["trace"]:
            traced.write_text(json.dumps(trace))
        if task["modules"]:
            Path(task["modules"]).write_text("\n".join(sys.modules))
        os._exit(code)


def _command(words: list[str]) -> int:
    from mmtune import cli

    # A writer runs as a command, so that what it raises passes the border of the command line.
    cli.COMMANDS["writer"] = ("tests.faults.writers", "run one writer")
    return cli.main(words)


def _listener(trace: list[tuple[str, str, str]], folder: str) -> Any:
    def heard(call: bytes, path: bytes) -> None:
        frame = sys._getframe(1) if sys._getframe().f_back else None
        functions: list[str] = []
        while frame is not None and len(functions) < 3:
            file = frame.f_code.co_filename
            if "/mmtune/" in file and "/site-packages/" not in file:
                functions.append(f"{file.rpartition('/mmtune/')[2]}:{frame.f_code.co_name}")
            frame = frame.f_back
        relative = path.decode(errors="replace").removeprefix(folder).lstrip("/")
        trace.append((call.decode(), relative, " < ".join(functions)))

    return heard


def _kill_at(fault: Fault) -> None:
    """Kill this process at the `fault.at`-th event: reading a file, or calling a function."""
    kind, _, what = fault.event.partition(":")
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == fault.at:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    if kind == "open":

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and what in str(arguments[0]):
                count()

        sys.addaudithook(hook)
        return
    owner_name, _, name = what.rpartition(".")
    module, _, class_name = owner_name.partition("/")
    owner = importlib.import_module(module)
    if class_name:
        owner = getattr(owner, class_name)
    real = getattr(owner, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        count()
        return real(*arguments, **named)

    setattr(owner, name, counted)


if __name__ == "__main__":
    main()
