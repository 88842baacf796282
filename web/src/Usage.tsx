import { useEffect, useState } from "preact/hooks";
import { get } from "./api";
import { count } from "./format";
import type { Rates } from "./types";

const SPANS: Record<string, [hours: number, steps: number]> = {
  "24 hours": [24, 48],
  "7 days": [168, 42],
  "30 days": [720, 30],
};
const AGAIN_MS = 60_000;

/** What was asked over the last days: tokens by tier. `done` only says when to look again. */
export function Usage({ done }: { done: number }) {
  const [span, setSpan] = useState("24 hours");
  const [rates, setRates] = useState<Rates | null>(null);
  useEffect(() => {
    const [hours, steps] = SPANS[span] ?? [24, 48];
    const look = () =>
      void get<Rates>(`/engine/history/rates?hours=${hours}&steps=${steps}`).then(setRates, () =>
        setRates(null),
      );
    const soon = setTimeout(look, 300);
    const timer = setInterval(look, AGAIN_MS);
    return () => {
      clearTimeout(soon);
      clearInterval(timer);
    };
  }, [span, done]);
  if (!rates) return null;
  const tiers = [...new Set(rates.rates.map((one) => one.tier))].sort();
  const steps = Array.from({ length: rates.steps }, (_, step) => {
    const at = rates.since_at + step * rates.step_s;
    const rows = rates.rates.filter((one) => Math.round((one.at - rates.since_at) / rates.step_s) === step);
    return { at, rows, sum: rows.reduce((sum, one) => sum + one.output_tokens, 0) };
  });
  const most = Math.max(1, ...steps.map((one) => one.sum));
  const all = rates.rates.reduce(
    (sum, one) => ({
      requests: sum.requests + one.requests,
      output: sum.output + one.output_tokens,
      prompt: sum.prompt + one.prompt_tokens,
      cached: sum.cached + one.cached_tokens,
    }),
    { requests: 0, output: 0, prompt: 0, cached: 0 },
  );
  const reused = all.prompt ? Math.round((100 * all.cached) / all.prompt) : 0;
  return (
    <section aria-labelledby="usage" class="card">
      <h2 id="usage">
        Written in the last{" "}
        <select aria-label="Span" value={span} onChange={(event) => setSpan(event.currentTarget.value)}>
          {Object.keys(SPANS).map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      </h2>
      <p>
        {count(all.requests)} requests, {count(all.output)} tokens written, {count(all.prompt)} in prompts,{" "}
        {reused}% of these not read again
      </p>
      <div
        class="columns"
        role="img"
        aria-label={`Tokens written over ${span}, at most ${count(most)} in a column`}
      >
        {steps.map((one) => (
          <span
            key={one.at}
            class="column"
            title={`${new Date(one.at * 1000).toLocaleString()}: ${count(one.sum)} tokens`}
          >
            {one.rows.map((row) => (
              <span
                key={row.tier}
                class={`c${tiers.indexOf(row.tier) % 6}`}
                style={{ height: `${(100 * row.output_tokens) / most}%` }}
              />
            ))}
          </span>
        ))}
      </div>
      <ul class="legend">
        {tiers.map((tier, place) => (
          <li key={tier}>
            <span class={`swatch c${place % 6}`} aria-hidden="true" /> {tier || "no tier"}
          </li>
        ))}
      </ul>
    </section>
  );
}
