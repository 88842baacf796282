import { gib } from "./format";
import type { Status } from "./types";

/** Each device's memory against its capacity, with every model's share, as it is planned. */
export function Memory({ status }: { status: Status }) {
  const models = status.instances.map((one) => one.model);
  return (
    <section aria-labelledby="memory" class="card">
      <h2 id="memory">Memory</h2>
      {Object.entries(status.capacity_mib).map(([device, capacity]) => {
        const shares = status.instances
          .map((one) => ({ model: one.model, mib: one.memory_mib[device] ?? 0 }))
          .filter((one) => one.mib > 0);
        const used = shares.reduce((sum, one) => sum + one.mib, 0);
        const told = shares.map((one) => `${one.model} ${gib(one.mib)}`).join(", ") || "nothing";
        return (
          <div class="device" key={device}>
            <p>
              <strong>{device === "host" ? "host" : device.replace("gpu", "GPU ")}</strong>{" "}
              <span class="quiet">
                {gib(used)} of {gib(capacity)}
              </span>
            </p>
            <div class="stack" role="img" aria-label={`${device}: ${told}; of ${gib(capacity)}`}>
              {shares.map((one) => (
                <span
                  key={one.model}
                  class={`share c${models.indexOf(one.model) % 6}`}
                  style={{ width: `${Math.min(100, (100 * one.mib) / Math.max(capacity, used, 1))}%` }}
                  title={`${one.model}: ${gib(one.mib)}`}
                />
              ))}
            </div>
            <ul class="legend">
              {shares.map((one) => (
                <li key={one.model}>
                  <span class={`swatch c${models.indexOf(one.model) % 6}`} aria-hidden="true" /> {one.model}{" "}
                  <span class="quiet">{gib(one.mib)}</span>
                </li>
              ))}
            </ul>
          </div>
        );
      })}
      <p class="quiet small">What the plan sets aside: weights, KV cache and compute buffers.</p>
    </section>
  );
}
