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
const YOUNG_S = 2;
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
    }
    if (!mine.signal.aborted) change({ connection: "lost" });
    await new Promise((resume) => setTimeout(resume, AGAIN_MS));
  }
}

const before = { read: new Map<number, number>(), write: new Map<number, number>() };

/** One more second: what was read and written in it. */
function sample(): void {
  const active = known.status?.requests.active ?? [];
  const live = known.connection === "live";
  const read = grown(before.read, active, readTokens);
  const write = grown(before.write, active, (one) => one.output_tokens);
  speed.at.push(Date.now() / 1000);
  speed.read.push(live ? read : null);
  speed.write.push(live ? write : null);
  while ((speed.at[0] ?? Number.POSITIVE_INFINITY) < Date.now() / 1000 - SPEED_S) {
    speed.at.shift();
    speed.write.shift();
    speed.read.shift();
  }
}

/** By how much a count of all requests under way has grown since the last look. */
function grown(last: Map<number, number>, active: RequestRow[], count: (one: RequestRow) => number): number {
  let sum = 0;
  const now = new Map(active.map((one) => [one.number, count(one)]));
  for (const one of active) {
    const value = now.get(one.number) ?? 0;
    const young = Date.now() / 1000 - one.began_at < YOUNG_S; // else it was under way before this page
    sum += Math.max(0, value - (last.get(one.number) ?? (young ? 0 : value)));
  }
  last.clear();
  for (const [number, value] of now) last.set(number, value);
  return sum;
}

/** Of a prompt that is being read: without what was reused. */
function readTokens(one: RequestRow): number {
  const share = one.progress?.stage === "prefill" ? (one.progress.percent ?? 0) / 100 : 0;
  return share * (one.prompt_tokens - one.cached_tokens);
}

setInterval(sample, 1000);
