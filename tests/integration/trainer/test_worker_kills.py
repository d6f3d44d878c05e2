"""kill -9 of a run's workers: what they emitted arrives, once and in order, and no commit arrives in parts."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import support
from support.trainer_parts import Parts, trainer_parts

TESTS = Path(next(iter(support.__path__))).parent


def worker(folder: Path, parts: Parts, name: str, limit: int) -> subprocess.Popen[str]:
    first = parts.claim(name)
    arguments = [str(folder), parts.address, name, str(first), str(limit)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-m", "support.event_worker", *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )


def test_what_killed_workers_emitted_arrives_once_and_commits_are_whole(tmp_path: Path) -> None:
    draw = random.Random(3)
    emitted: dict[str, int] = {}
    with trainer_parts(tmp_path) as parts:
        for number in range(4):
            name = f"worker-{number}"
            with worker(tmp_path, parts, name, 10**9) as process:
                assert process.stdout is not None
                enough = draw.randrange(7, 700)
                while (count := int(process.stdout.readline())) < enough:
                    pass
                process.kill()
                emitted[name] = max([count, *(int(line) for line in process.stdout.read().split() if line)])
        with worker(tmp_path, parts, "last", 100) as process:
            assert process.wait(60) == 0
            emitted["last"] = 100
        texts = parts.texts()
    for name, count in emitted.items():
        lines = [int(text.split()[1]) for text in texts if text.startswith(f"{name} ") and "commit" not in text]
        assert lines == list(range(1, len(lines) + 1))
        assert len(lines) >= count
        commits = [text.split()[2:] for text in texts if text.startswith(f"{name} commit ")]
        numbers = [int(number) for number, _ in commits[::3]]
        assert commits == [[str(number), str(part)] for number in numbers for part in range(3)]
        assert numbers == list(range(50, 50 * len(numbers) + 1, 50))
        # A commit that was waited for is there before what came after it.
        assert len(numbers) >= (len(lines) - 1) // 50
    assert [text.split()[0] for text in texts] == sorted((text.split()[0] for text in texts), key=list(emitted).index)
