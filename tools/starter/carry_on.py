"""Start or resume the starter's training in the background, whatever of it is there already.

    python tools/starter/carry_on.py --work FOLDER

Draws the pool and trains the text encoder first if the folder has none. A second call while it
runs says so and does nothing. `kill -STOP` and `kill -CONT` pause it; `kill` ends it, and the next
call goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from state import Busy, Lock, copy_missing
from train import WORK

HERE = Path(__file__).resolve().parent
FILES, TEXT_MINUTES = 10, 25  # of the pool; of the text encoder's training


def steps(work: Path, npm: Path | None) -> list[list[str]]:
    """The commands that are still to run before the training."""
    from pool import files

    copy_missing(work / "carry", work)
    found = []
    if len(files(work)) < FILES:
        found.append(["pool.py", "--work", str(work), "--files", str(FILES)])
        found[-1] += ["--npm", str(npm)] if npm else []
    begun = (work / "text" / "heads.pt").exists() or (work / "carry" / "unet.pt").exists()
    if not begun:
        found.append(["text.py", "--work", str(work), "--minutes", str(TEXT_MINUTES)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    parser.add_argument("--threads", type=int, default=1, help="0: the cores that are idle")
    parser.add_argument(
        "--here", action="store_true", help="in this process, not in the background"
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    log = args.work / "log.txt"
    if args.here:
        with Lock(args.work / "carry_on.pid"):
            for command in steps(args.work, args.npm):
                subprocess.run([sys.executable, str(HERE / command[0]), *command[1:]], check=True)
        train = [str(HERE / "train.py"), "--work", str(args.work), "--threads", str(args.threads)]
        os.execv(sys.executable, [sys.executable, *train])
    for name in ("carry_on.pid", "train.pid"):
        try:
            with Lock(args.work / name):
                pass
        except Busy as busy:
            print(busy)
            print(f"log: {log}")
            return
    command = [sys.executable, str(HERE / "carry_on.py"), "--work", str(args.work), "--here"]
    command += ["--threads", str(args.threads)]
    command += ["--npm", str(args.npm)] if args.npm else []
    with log.open("a") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
    print(f"started, process {process.pid}; log: {log}")


if __name__ == "__main__":
    main()
