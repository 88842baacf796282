"""The contract between rooms in TypeScript: what is kept is what the schema makes, and a compiler understands it."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CONTRACT = ROOT / "docs" / "contract"

_USE = """
import type { Decision, Event } from "%s";

export function told(event: Event): string {
  switch (event.type) {
    case "text_delta":
      return event.text;
    case "tool_ended":
      return event.diffs.map((diff) => diff.patch).join();
    case "approval_requested":
      return event.approval.payload_sha256;
    default:
      return event.session_id;
  }
}

export const yes: Pick<Decision, "choice" | "scope"> = { choice: "approve", scope: "once" };
"""


def test_typescript_types_are_the_generated_ones(tmp_path: Path) -> None:
    made = tmp_path / "events.d.ts"
    program = ROOT / "tests" / "support" / "node"
    subprocess.run(
        ["npm", "run", "--silent", "contract", "--prefix", program, "--", "-o", made], check=True, timeout=60
    )
    assert made.read_text() == (CONTRACT / "events.d.ts").read_text(), "run `make contract`"


def test_a_compiler_tells_events_apart_by_their_type(tmp_path: Path) -> None:
    compiler = ROOT / "web" / "node_modules" / ".bin" / "tsc"
    (tmp_path / "use.ts").write_text(_USE % (CONTRACT / "events"))
    (tmp_path / "wrong.ts").write_text(_USE.replace("event.diffs.map", "event.text.map") % (CONTRACT / "events"))
    for name, fine in (("use.ts", True), ("wrong.ts", False)):
        done = subprocess.run(
            [compiler, "--noEmit", "--strict", "--target", "es2022", "--moduleResolution", "bundler", "--module",
             "esnext", tmp_path / name],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert (done.returncode == 0) is fine, done.stdout
