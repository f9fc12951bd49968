"""wrk, which sends as fast as it is answered: for what a server can do, not for how long users wait."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.harness.drain import DrainFailed

SCRIPT = """\
local requests, number = {{}}, 0
init = function()
    for line in io.lines("{bodies}") do
        local body = line:gsub("\\t", "\\n")
        local headers = {{["content-type"] = "{media_type}"}}
        requests[#requests + 1] = wrk.format("POST", nil, headers, body)
    end
end
request = function()
    number = number % #requests + 1
    return requests[number]
end
"""


def post(
    url: str, bodies: Sequence[bytes], media_type: str, seconds: int, connections: int
) -> tuple[float, int]:
    """Post bodies in turn; return requests/s and how many were answered.

    Args:
        url: where to.
        bodies: none has a tab in it.
        media_type: of the bodies.
        seconds: for so long.
        connections: kept open; each sends its next request when the last one is answered.

    Raises:
        DrainFailed: wrk is missing or failed, or an answer was no success.
    """
    if shutil.which("wrk") is None:
        raise DrainFailed("wrk is missing: deploy/setup --test-servers installs it")
    with tempfile.TemporaryDirectory(prefix="wrk-") as directory:
        file, script = Path(directory) / "bodies", Path(directory) / "post.lua"
        file.write_bytes(b"".join(body.replace(b"\n", b"\t") + b"\n" for body in bodies))
        script.write_text(SCRIPT.format(bodies=file, media_type=media_type))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "-s", str(script), url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    count = re.search(r"(\d+) requests in", done.stdout)
    if rate is None or count is None or "Non-2xx" in done.stdout:
        raise DrainFailed(f"wrk: {done.stdout}{done.stderr}")
    return float(rate[1]), int(count[1])
