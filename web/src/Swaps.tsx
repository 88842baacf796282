import { clock, ms, PHASES } from "./format";
import type { Status, Swap } from "./types";

const MOST = 12;

/** The latest swaps on one scale, each a bar of its phases; `before`: those of earlier runs of the engine. */
export function Swaps({ status, before }: { status: Status; before: Swap[] }) {
  const older = before.filter((one) => one.at < status.started_at);
  const shown = [...[...status.swaps].reverse(), ...older].slice(0, MOST);
  const longest = Math.max(1, ...shown.map(total));
  return (
    <section aria-labelledby="swaps" class="card">
      <h2 id="swaps">Swaps</h2>
      {shown.length === 0 ? (
        <p class="quiet">None yet.</p>
      ) : (
        <>
          <ol class="swaps">
            {shown.map((one) => (
              <li key={one.at + one.model}>
                <span class="name">
                  {one.model} <span class="quiet">{clock(one.at)}</span>
                </span>
                <span class="track" role="img" aria-label={told(one)}>
                  {Object.entries(one.phases_ms).map(([name, took]) => (
                    <span
                      key={name}
                      class={`phase ${name}`}
                      style={{ width: `${(100 * took) / longest}%` }}
                      title={`${PHASES[name] ?? name}: ${ms(took)}`}
                    />
                  ))}
                </span>
                <span class="number">{ms(total(one))}</span>
              </li>
            ))}
          </ol>
          <ul class="legend">
            {Object.entries(PHASES).map(([name, words]) => (
              <li key={name}>
                <span class={`swatch phase ${name}`} aria-hidden="true" /> {words}
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

function total(one: Swap): number {
  return Object.values(one.phases_ms).reduce((sum, took) => sum + took, 0);
}

function told(one: Swap): string {
  const phases = Object.entries(one.phases_ms).filter(([, took]) => took >= 1);
  const gone = one.gave_way.length ? `, ${one.gave_way.join(" and ")} gave way` : "";
  return `${one.model}${gone}: ${phases.map(([name, took]) => `${PHASES[name] ?? name} ${ms(took)}`).join(", ")}`;
}
