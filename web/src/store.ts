// What the page knows: the engine's state, as its events tell it, and the speed of the last minutes.

import { useEffect, useState } from "preact/hooks";
import { get, key, listen, Refused } from "./api";
import type { RequestRow, Status, Swap } from "./types";

export type Connection = "connecting" | "live" | "lost" | "key";

export interface Knowledge {
  connection: Connection;
  problem: string;
  status: Status | null;
  recent: RequestRow[];
  before: Swap[]; // swaps of earlier runs
}

const MOST_RECENT = 100;
const MOST_SWAPS = 30;
const SPEED_S = 300;
const AGAIN_MS = 2000;

/** Tokens a second, one sample a second, oldest first; times are Unix seconds. */
export const speed = { at: [] as number[], read: [] as (number | null)[], write: [] as (number | null)[] };

let known: Knowledge = { connection: "connecting", problem: "", status: null, recent: [], before: [] };
const watchers = new Set<(now: Knowledge) => void>();
let listening: AbortController | null = null;

function change(part: Partial<Knowledge>): void {
  known = { ...known, ...part };
  for (const watcher of watchers) watcher(known);
}

export function useKnowledge(): Knowledge {
  const [now, set] = useState(known);
  useEffect(() => {
    watchers.add(set);
    set(known);
    return () => void watchers.delete(set);
  }, []);
  return now;
}

function told(kind: string, data: unknown): void {
  if (kind === "status") {
    change({ connection: "live", problem: "", status: data as Status });
  } else if (kind === "request") {
    const row = data as RequestRow;
    ended(row);
    const others = known.recent.filter((one) => one.number !== row.number);
    change({ recent: [row, ...others].slice(0, MOST_RECENT) });
  }
}

/** Connect, and again whenever the connection ends, until a key is missing. */
export async function follow(): Promise<void> {
  listening?.abort();
  const mine = new AbortController();
  listening = mine;
  let last = "";
  while (!mine.signal.aborted) {
    try {
      const [requests, swaps] = await Promise.all([
        get<{ recent: RequestRow[] }>("/engine/requests"),
        get<{ rows: Swap[] }>(`/engine/history/swap?limit=${MOST_SWAPS}`).catch((error: unknown) => {
          if (error instanceof Refused && error.status === 401) throw error;
          return { rows: known.before };
        }),
      ]);
      change({ recent: requests.recent.slice(0, MOST_RECENT), before: swaps.rows });
      last = await listen("/engine/events", last, told, mine.signal);
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error instanceof Refused && error.status === 401) {
        const problem = key.get() ? error.message : "";
        key.forget();
        change({ connection: "key", problem });
        return;
      }
      last = "";
      if (!mine.signal.aborted) change({ problem: error instanceof Refused ? error.message : "" });
    }
    if (!mine.signal.aborted) change({ connection: "lost" });
    await new Promise((resume) => setTimeout(resume, AGAIN_MS));
  }
}

interface Counts {
  read: number;
  write: number;
}

let lastCounts: Map<number, Counts> | null = null; // of requests under way at the last look; null: none yet
let finished: Counts = { read: 0, write: 0 }; // what those that ended since then had not told before
let lastAt = Date.now();

/** One more sample: what was read and written since the last one, a second. A hidden page looks more rarely. */
function sample(): void {
  const seconds = Math.max(0.2, (Date.now() - lastAt) / 1000);
  lastAt = Date.now();
  const live = known.connection === "live" && known.status !== null;
  const counts = new Map((known.status?.requests.active ?? []).map((one) => [one.number, countsOf(one)]));
  let { read, write } = finished;
  for (const [number, now] of counts) {
    // Whatever was under way before this page looked first is not new.
    const last = lastCounts ? (lastCounts.get(number) ?? { read: 0, write: 0 }) : now;
    read += Math.max(0, now.read - last.read);
    write += Math.max(0, now.write - last.write);
  }
  finished = { read: 0, write: 0 };
  lastCounts = live ? counts : null;
  speed.at.push(lastAt / 1000);
  speed.read.push(live ? read / seconds : null);
  speed.write.push(live ? write / seconds : null);
  while ((speed.at[0] ?? Number.POSITIVE_INFINITY) < lastAt / 1000 - SPEED_S) {
    speed.at.shift();
    speed.write.shift();
    speed.read.shift();
  }
}

/** Of a prompt only what was not reused; a prompt is read once its answer begins. */
function countsOf(one: RequestRow): Counts {
  const stage = one.progress?.stage;
  const share =
    stage === "prefill" ? (one.progress?.percent ?? 0) / 100 : stage === "answer" || !stage ? 1 : 0;
  return { read: share * Math.max(0, one.prompt_tokens - one.cached_tokens), write: one.output_tokens };
}

/** A request is over: what it had not told while it was under way counts now. */
function ended(row: RequestRow): void {
  if (!lastCounts) return;
  const last = lastCounts.get(row.number) ?? { read: 0, write: 0 };
  const all = countsOf(row);
  finished.read += Math.max(0, all.read - last.read);
  finished.write += Math.max(0, all.write - last.write);
  lastCounts.delete(row.number);
}

setInterval(sample, 1000);
