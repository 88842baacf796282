import { useRef } from "preact/hooks";
import { key } from "./api";
import { follow } from "./store";

/** Asks for the key that the engine wants; it is kept for this tab only. */
export function KeyForm({ problem }: { problem: string }) {
  const field = useRef<HTMLInputElement>(null);
  const enter = (event: Event) => {
    event.preventDefault();
    key.set(field.current?.value.trim() ?? "");
    void follow();
  };
  return (
    <form class="card key" onSubmit={enter}>
      <h2>This engine wants a key</h2>
      <p>
        Its owner makes one with <code>variet key add NAME --admin</code>. It stays in this tab and is
        forgotten with it. A key without <code>--admin</code> shows everything but logs, and changes nothing.
      </p>
      <label>
        API key <input ref={field} type="password" autocomplete="off" required />
      </label>{" "}
      <button type="submit">Open</button>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </form>
  );
}
