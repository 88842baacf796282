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
  swaps: Swap[];
}

const MOST_RECENT = 100;
const MOST_SWAPS = 30;
const SPEED_S = 300;
const AGAIN_MS = 2000;

/** Tokens a second, one sample a second, oldest first; times are Unix seconds. */
export const speed = { at: [] as number[], read: [] as (number | null)[], write: [] as (number | null)[] };

let known: Knowledge = { connection: "connecting", problem: "", status: null, recent: [], swaps: [] };
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
  } else if (kind === "swap") {
    change({ swaps: [data as Swap, ...known.swaps].slice(0, MOST_SWAPS) });
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
          return { rows: known.swaps };
        }),
      ]);
      change({ recent: requests.recent.slice(0, MOST_RECENT), swaps: swaps.rows });
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

/** The speed now, from what is under way. */
function sample(): void {
  const active = known.status?.requests.active ?? [];
  const writing = active.filter((one) => one.progress?.stage === "answer");
  const sum = writing.reduce((total, one) => total + (one.tokens_per_s ?? 0), 0);
  speed.at.push(Date.now() / 1000);
  speed.write.push(known.connection === "live" ? sum : null);
  speed.read.push(known.connection === "live" ? readingSpeed(active) : null);
  while ((speed.at[0] ?? Number.POSITIVE_INFINITY) < Date.now() / 1000 - SPEED_S) {
    speed.at.shift();
    speed.write.shift();
    speed.read.shift();
  }
}

let readBefore = new Map<number, number>();

/** Prompt tokens that were read since the last look, a second ago. */
function readingSpeed(active: RequestRow[]): number {
  const now = new Map<number, number>();
  let sum = 0;
  for (const one of active) {
    if (one.progress?.stage !== "prefill") continue;
    const share = (one.progress.percent ?? 0) / 100;
    const read = one.cached_tokens + share * (one.prompt_tokens - one.cached_tokens);
    now.set(one.number, read);
    sum += Math.max(0, read - (readBefore.get(one.number) ?? one.cached_tokens));
  }
  readBefore = now;
  return sum;
}

setInterval(sample, 1000);
