// Numbers as a person reads them.

export function ms(value: number | null | undefined): string {
  if (value === null || value === undefined) return "";
  if (value < 1) return "0";
  if (value < 1000) return `${Math.round(value)} ms`;
  const seconds = value / 1000;
  if (seconds < 100) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? `${minutes} min ${Math.round(seconds % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function gib(mib: number): string {
  return mib < 1000 ? `${Math.round(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}

export function bytes(value: number): string {
  return gib(value / 1048576);
}

export function count(value: number): string {
  return value.toLocaleString("en");
}

export function clock(at: number): string {
  const then = new Date(at * 1000);
  const today = then.toDateString() === new Date().toDateString();
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return today ? time : `${then.toLocaleDateString([], { month: "short", day: "numeric" })} ${time}`;
}

export function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}

/** What a phase of a swap is, in words. */
export const PHASES: Record<string, string> = {
  pull: "fetching files",
  drain: "letting answers finish",
  save: "saving conversations",
  stop: "stopping",
  memory: "memory coming back",
  load: "loading",
  restore: "restoring the conversation",
  first: "to the first word",
};

const STAGES: Record<string, string> = {
  queue: "waits",
  pull: "fetches files",
  load: "loads",
  restore: "restores",
  prefill: "reads",
  answer: "answers",
};

export function stage(name: string): string {
  return STAGES[name] ?? name;
}
