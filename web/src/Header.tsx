import { useEffect, useState } from "preact/hooks";
import { key } from "./api";
import { clock } from "./format";
import { type Connection, follow, type Knowledge } from "./store";

const WORDS: Record<Connection, string> = {
  connecting: "connecting",
  live: "live",
  lost: "connection lost, trying again",
  key: "locked",
};
const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

function storedTheme(): Theme {
  const stored = localStorage.getItem("variet-theme");
  return THEMES.find((one) => one === stored) ?? "system";
}

/** Name, whether what is shown is live, and how it looks. */
export function Header({ known }: { known: Knowledge }) {
  const [theme, setTheme] = useState<Theme>(storedTheme);
  useEffect(() => {
    localStorage.setItem("variet-theme", theme);
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    window.dispatchEvent(new Event("variet-theme"));
  }, [theme]);
  const { status } = known;
  const lock = () => {
    key.forget();
    void follow();
  };
  return (
    <header>
      <h1>
        <img src="/engine/page/icon.svg" alt="" width="28" height="28" /> Variet Engine
      </h1>
      <p class="facts">
        <span class={`dot ${known.connection}`} aria-hidden="true" />
        <span role="status">
          {WORDS[known.connection]}
          {known.connection === "lost" && known.problem && `: ${known.problem}`}
        </span>
        {status && (
          <span class="wide">
            since {clock(status.started_at)} · llama-server {status.llama_server.version}
          </span>
        )}
      </p>
      <label class="theme">
        <span class="sr">Colours</span>
        <select value={theme} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
          {THEMES.map((one) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
        </select>
      </label>
      {key.get() && (
        <button type="button" onClick={lock}>
          Forget key
        </button>
      )}
    </header>
  );
}
