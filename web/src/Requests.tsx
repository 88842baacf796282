import type { ComponentChildren } from "preact";
import { clock, count, ms, stage } from "./format";
import { Bar } from "./Tiers";
import type { RequestRow, Status } from "./types";

/** Who waits and who is answered now. */
export function UnderWay({ status }: { status: Status }) {
  const { active, waiting } = status.requests;
  return (
    <section aria-labelledby="under-way">
      <h2 id="under-way">
        Under way{" "}
        <span class="quiet">
          {active.length ? `${active.length}, ${waiting} of them waiting` : "nothing"}
        </span>
      </h2>
      {active.length > 0 && (
        <ul class="active">
          {active.map((one) => (
            <li key={one.number} class="card">
              <p>
                <strong>{one.tier || one.model}</strong> <span class="quiet">{one.id}</span>
                <span class="right">{ms(Date.now() - one.began_at * 1000)}</span>
              </p>
              <Stage row={one} />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Stage({ row }: { row: RequestRow }) {
  const at = row.progress;
  if (!at) return null;
  const place = at.position ? `number ${at.position} in the queue` : "";
  const left = at.left_ms ? `about ${ms(at.left_ms)} left` : "";
  if (at.stage === "answer")
    return (
      <p>
        {count(row.output_tokens)} tokens{row.tokens_per_s ? `, ${row.tokens_per_s} a second` : ""}
      </p>
    );
  const words = [at.percent === undefined ? "" : `${Math.round(at.percent)}%`, left, place, at.reason ?? ""];
  return (
    <Bar
      label={stage(at.stage)}
      share={at.percent === undefined ? null : at.percent / 100}
      words={words.filter(Boolean).join(" · ")}
    />
  );
}

interface Column {
  name: string;
  cell: (row: RequestRow) => ComponentChildren;
  words?: boolean; // not a number
}

const COLUMNS: Column[] = [
  { name: "began", cell: (row) => <time>{clock(row.began_at)}</time>, words: true },
  {
    name: "tier",
    cell: (row) => (
      <span title={row.reason ?? `${row.path} on ${row.model}`}>
        {row.tier || row.model}
        {row.reason && <span class="quiet"> auto</span>}
      </span>
    ),
    words: true,
  },
  { name: "outcome", cell: (row) => <span class={look(row.outcome)}>{row.outcome}</span>, words: true },
  { name: "waited", cell: (row) => ms(row.queue_ms) },
  { name: "swap", cell: (row) => row.swap_ms && ms(row.swap_ms) },
  { name: "prompt", cell: (row) => count(row.prompt_tokens) },
  { name: "reused", cell: (row) => row.cached_tokens && count(row.cached_tokens) },
  {
    name: "restored",
    cell: (row) => row.restored_tokens && `${count(row.restored_tokens)} in ${ms(row.restore_ms)}`,
  },
  { name: "first word", cell: (row) => ms(row.first_byte_ms) },
  { name: "answer", cell: (row) => count(row.output_tokens) },
  { name: "tokens/s", cell: (row) => row.tokens_per_s },
  { name: "whole", cell: (row) => ms(row.total_ms) },
];

function look(outcome: string): string {
  return outcome === "done" ? "" : outcome === "left" ? "quiet" : "problem";
}

/** The latest requests that are over, and what each had to wait for. */
export function Recent({ rows }: { rows: RequestRow[] }) {
  return (
    <section aria-labelledby="recent">
      <h2 id="recent">Latest requests</h2>
      {rows.length === 0 ? (
        <p class="quiet">None yet.</p>
      ) : (
        <section class="scroll" tabIndex={0} aria-label="Latest requests, a table that scrolls">
          <table>
            <thead>
              <tr>
                {COLUMNS.map(({ name, words }) => (
                  <th key={name} scope="col" class={words ? "" : "number"}>
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.number}>
                  {COLUMNS.map(({ name, cell, words }) => (
                    <td key={name} data-name={name} class={words ? "" : "number"}>
                      {cell(row) || null}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </section>
  );
}
