import { useEffect, useRef, useState } from "preact/hooks";
import { getText } from "./api";
import type { Status } from "./types";

const LINES = 300;
const AGAIN_MS = 2000;

/** The end of a model's log, or the engine's own; followed while it is open. */
export function Logs({ status }: { status: Status }) {
  const models = [...new Set(Object.values(status.tiers).map((one) => one.model))];
  const [name, setName] = useState("");
  const [text, setText] = useState("");
  const [problem, setProblem] = useState("");
  const box = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    setText("");
    atEnd.current = true;
    if (!name) return;
    let gone = false;
    const look = async () => {
      try {
        const found = await getText(`/engine/logs/${encodeURIComponent(name)}?lines=${LINES}`);
        if (gone) return;
        setText(found);
        setProblem("");
      } catch (error) {
        if (!gone) setProblem(error instanceof Error ? error.message : String(error));
      }
    };
    void look();
    const timer = setInterval(() => void look(), AGAIN_MS);
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [name]);
  // Follows the end, unless somebody scrolled away from it.
  useEffect(() => {
    if (box.current && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  const scrolled = () => {
    const one = box.current;
    if (one) atEnd.current = one.scrollHeight - one.scrollTop - one.clientHeight < 40;
  };
  return (
    <section aria-labelledby="logs" class="card">
      <h2 id="logs">Logs</h2>
      <label>
        Log of{" "}
        <select value={name} onChange={(event) => setName(event.currentTarget.value)}>
          <option value="">nothing</option>
          <option value="engine">the engine</option>
          {models.map((one) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
        </select>
      </label>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {name && !problem && (
        <pre ref={box} onScroll={scrolled} tabIndex={0} role="log" aria-label={`Log of ${name}`}>
          {text}
        </pre>
      )}
    </section>
  );
}
