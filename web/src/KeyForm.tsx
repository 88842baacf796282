import { useRef, useState } from "preact/hooks";
import { key } from "./api";
import { follow } from "./store";

/** Asks for the key that the engine wants; it is kept for this tab only. */
export function KeyForm({ problem }: { problem: string }) {
  const field = useRef<HTMLInputElement>(null);
  const [typo, setTypo] = useState("");
  const enter = (event: Event) => {
    event.preventDefault();
    const value = field.current?.value.trim() ?? "";
    if (!/^[\x21-\x7e]+$/.test(value)) {
      setTypo(
        "A key has letters, digits, dashes and underscores only: something else came along when it was copied.",
      );
      return;
    }
    setTypo("");
    key.set(value);
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
      {(typo || problem) && (
        <p class="problem" role="alert">
          {typo || problem}
        </p>
      )}
    </form>
  );
}
