import { clock, ms } from "./format";
import type { Moment } from "./types";

/** What happened to models, the newest first. */
export function Journal({ moments }: { moments: Moment[] }) {
  return (
    <section aria-labelledby="journal" class="card">
      <h2 id="journal">Journal</h2>
      <ol class="journal">
        {[...moments].reverse().map((one) => (
          <li key={`${one.at}${one.kind}${one.model}`}>
            <time class="quiet">{clock(one.at)}</time> <strong>{one.model}</strong> {one.kind}
            {one.ms !== null && ` in ${ms(one.ms)}`} <span class="quiet">{one.detail}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}
