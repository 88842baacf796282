import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { post } from "./api";
import { bytes, count, ms, percent } from "./format";
import type { Instance, Status, Tier } from "./types";

/** The five tiers: what each runs, how it stands, and what may be done about it. */
export function Tiers({ status }: { status: Status }) {
  const [said, setSaid] = useState("");
  const [failed, setFailed] = useState(false);
  const wish = async (kind: string, tier: string, words: string) => {
    setFailed(false);
    setSaid(`${words} ${tier} …`);
    const began = performance.now();
    try {
      await post(`/engine/${kind}`, { model: tier });
      setSaid(`${words} ${tier}: done in ${ms(performance.now() - began)}`);
    } catch (error) {
      setFailed(true);
      setSaid(`${words} ${tier}: ${error instanceof Error ? error.message : error}`);
    }
  };
  return (
    <section aria-labelledby="tiers">
      <h2 id="tiers">Tiers</h2>
      <div class="tiers">
        {Object.entries(status.tiers).map(([name, tier]) => (
          <Card key={name} name={name} tier={tier} status={status} wish={wish} />
        ))}
      </div>
      <p class={failed ? "problem said" : "said"} role={failed ? "alert" : "status"}>
        {said}
      </p>
    </section>
  );
}

interface CardProps {
  name: string;
  tier: Tier;
  status: Status;
  wish: (kind: string, tier: string, words: string) => void;
}

function Card({ name, tier, status, wish }: CardProps) {
  const instance = status.instances.find((one) => one.model === tier.model);
  const pull = status.pulls[tier.model];
  const load = loadTime(status, tier.model);
  const up = instance?.phase === "ready";
  // Who pressed a button that goes away finds itself on its card, not at the top of the page.
  const card = useRef<HTMLElement>(null);
  const held = card.current?.contains(document.activeElement) ?? false;
  useLayoutEffect(() => {
    if (held && !card.current?.contains(document.activeElement)) card.current?.focus();
  });
  return (
    <article class={`card tier ${tier.state}`} ref={card} tabIndex={-1} aria-labelledby={`tier-${name}`}>
      <h3 id={`tier-${name}`}>
        {name} <span class={`state ${tier.state}`}>{tier.state}</span>
      </h3>
      <p class="model">{tier.model}</p>
      <p class="quiet">{tier.description || `${count(tier.context_length)} tokens of context`}</p>
      {instance && <Activity instance={instance} />}
      {pull && !pull.done && (
        <Bar
          label={`fetching ${pull.file}`}
          share={pull.total ? pull.bytes / pull.total : null}
          words={pull.total ? `${bytes(pull.bytes)} of ${bytes(pull.total)}` : bytes(pull.bytes)}
        />
      )}
      {tier.problem && <p class="problem">{tier.problem}</p>}
      {!instance && load && <p class="quiet">loads in about {load}</p>}
      <p class="buttons">
        {up ? (
          <button
            type="button"
            onClick={() => wish("unload", name, "unloading")}
            aria-label={`Unload ${name}`}
          >
            Unload
          </button>
        ) : (
          <>
            <button
              type="button"
              class="main"
              onClick={() => wish("swap", name, "swapping to")}
              aria-label={`Swap to ${name}`}
            >
              Swap to
            </button>
            <button
              type="button"
              onClick={() => wish("load", name, "loading")}
              aria-label={`Load beside: ${name}`}
              title="beside the others, if it fits"
            >
              Load beside
            </button>
          </>
        )}
      </p>
    </article>
  );
}

function Activity({ instance }: { instance: Instance }) {
  if (instance.phase === "starting")
    return (
      <Bar
        label={instance.stage ?? "loading"}
        share={instance.progress}
        words={percent(instance.progress ?? 0)}
      />
    );
  const busy = instance.leases;
  const words = busy ? `${busy} of ${instance.slots} slot${instance.slots > 1 ? "s" : ""} at work` : "rests";
  return (
    <p class="slots">
      <span aria-hidden="true">
        {Array.from({ length: instance.slots }, (_, place) => (
          <span key={place} class={place < busy ? "slot busy" : "slot"} />
        ))}
      </span>{" "}
      {instance.phase === "ready" ? words : `${instance.phase}: ${words}`}
    </p>
  );
}

/** A share of something; null: it goes on, nobody knows how far it is. */
export function Bar({ label, share, words }: { label: string; share: number | null; words: string }) {
  return (
    <p class="progress">
      <span class="quiet">{label}</span> <span>{words}</span>
      {share === null ? (
        <progress aria-label={label} />
      ) : (
        <progress aria-label={label} value={share} max={1} />
      )}
    </p>
  );
}

function loadTime(status: Status, model: string): string {
  const last = [...status.swaps].reverse().find((one) => one.model === model)?.phases_ms.load;
  return last ? ms(last) : "";
}
