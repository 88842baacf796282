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
                <th scope="col">began</th>
                <th scope="col">tier</th>
                <th scope="col">outcome</th>
                <th scope="col" class="number">
                  waited
                </th>
                <th scope="col" class="number">
                  swap
                </th>
                <th scope="col" class="number">
                  prompt
                </th>
                <th scope="col" class="number">
                  reused
                </th>
                <th scope="col" class="number">
                  restored
                </th>
                <th scope="col" class="number">
                  first word
                </th>
                <th scope="col" class="number">
                  answer
                </th>
                <th scope="col" class="number">
                  tokens/s
                </th>
                <th scope="col" class="number">
                  whole
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map((one) => (
                <Row key={one.number} row={one} />
              ))}
            </tbody>
          </table>
        </section>
      )}
    </section>
  );
}

function Row({ row }: { row: RequestRow }) {
  const look = row.outcome === "done" ? "" : row.outcome === "left" ? "quiet" : "problem";
  return (
    <tr>
      <td data-name="began">
        <time>{clock(row.began_at)}</time>
      </td>
      <td data-name="tier" title={row.reason ?? `${row.path} on ${row.model}`}>
        {row.tier || row.model}
        {row.reason && <span class="quiet"> auto</span>}
      </td>
      <td data-name="outcome" class={look}>
        {row.outcome}
      </td>
      <td data-name="waited" class="number">
        {ms(row.queue_ms)}
      </td>
      <td data-name="swap" class="number">
        {row.swap_ms ? ms(row.swap_ms) : ""}
      </td>
      <td data-name="prompt" class="number">
        {count(row.prompt_tokens)}
      </td>
      <td data-name="reused" class="number">
        {row.cached_tokens ? count(row.cached_tokens) : ""}
      </td>
      <td data-name="restored" class="number">
        {row.restored_tokens ? `${count(row.restored_tokens)} in ${ms(row.restore_ms)}` : ""}
      </td>
      <td data-name="first word" class="number">
        {ms(row.first_byte_ms)}
      </td>
      <td data-name="answer" class="number">
        {count(row.output_tokens)}
      </td>
      <td data-name="tokens/s" class="number">
        {row.tokens_per_s ?? ""}
      </td>
      <td data-name="whole" class="number">
        {ms(row.total_ms)}
      </td>
    </tr>
  );
}
