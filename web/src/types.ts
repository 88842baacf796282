// What the engine's API answers with (docs/engine.md; src/variet/engine/view.py makes it).

export interface Tier {
  model: string;
  state: string;
  description: string;
  context_length: number;
  problem: string | null;
  expected_tokens_per_s: number | null;
  prefill_tokens_per_s: number | null; // measured, if it ever was
}

export interface Instance {
  id: number;
  model: string;
  phase: string;
  slots: number;
  leases: number;
  memory_mib: Record<string, number>;
  stage: string | null;
  progress: number | null;
  idle_since_at: number | null;
}

export interface Progress {
  stage: string;
  percent?: number; // 0 to 100
  position?: number; // in the queue, 1 is next
  left_ms?: number;
  reason?: string;
}

export interface RequestRow {
  id: string;
  number: number;
  path: string;
  tier: string;
  model: string;
  reason: string | null;
  stream: boolean;
  began_at: number;
  outcome: string;
  progress: Progress | null;
  queue_ms: number;
  swap_ms: number;
  restore_ms: number;
  restored_tokens: number;
  prompt_tokens: number;
  cached_tokens: number;
  output_tokens: number;
  first_byte_ms: number | null;
  tokens_per_s: number | null;
  total_ms: number | null;
}

export interface Swap {
  at: number;
  model: string;
  gave_way: string[];
  phases_ms: Record<string, number>;
}

export interface Moment {
  at: number;
  kind: string;
  model: string;
  ms: number | null;
  detail: string;
}

export interface Pull {
  file: string;
  bytes: number;
  total: number | null;
  problem: string | null;
  done: boolean;
}

export interface Status {
  started_at: number;
  configuration: string;
  llama_server: { path: string; version: string; origin: string };
  tiers: Record<string, Tier>;
  instances: Instance[];
  commands: { kind: string; model: string; since_at: number }[];
  pulls: Record<string, Pull>;
  prefetch: { model: string; why: string; bytes: number; total: number } | null;
  capacity_mib: Record<string, number>;
  swaps: Swap[];
  requests: { active: RequestRow[]; waiting: number; done: number };
  journal: Moment[];
}

export interface Rates {
  since_at: number;
  step_s: number;
  steps: number;
  rates: {
    at: number;
    tier: string;
    requests: number;
    prompt_tokens: number;
    cached_tokens: number;
    output_tokens: number;
  }[];
}
