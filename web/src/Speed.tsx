import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { speed } from "./store";

const HEIGHT = 190;
const MINUTES = 5;

/** A colour of the theme as the canvas takes it: `light-dark()` is resolved where it is used. */
function colour(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** Tokens a second over the last minutes: written, and read of prompts. */
export function Speed() {
  const place = useRef<HTMLDivElement>(null);
  const [now, setNow] = useState({ write: 0, read: 0 });
  useEffect(() => {
    const home = place.current;
    if (!home) return;
    let chart = draw(home);
    const data = (): uPlot.AlignedData => [speed.at, speed.write, speed.read];
    const timer = setInterval(() => {
      const end = Date.now() / 1000;
      chart.setData(data(), false);
      chart.setScale("x", { min: end - MINUTES * 60, max: end });
      setNow({ write: speed.write.at(-1) ?? 0, read: speed.read.at(-1) ?? 0 });
    }, 1000);
    const again = () => {
      chart.destroy();
      chart = draw(home);
    };
    const sizes = new ResizeObserver(() => chart.setSize({ width: home.clientWidth, height: HEIGHT }));
    sizes.observe(home);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", again);
    window.addEventListener("variet-theme", again);
    return () => {
      clearInterval(timer);
      sizes.disconnect();
      dark.removeEventListener("change", again);
      window.removeEventListener("variet-theme", again);
      chart.destroy();
    };
  }, []);
  return (
    <section aria-labelledby="speed" class="card">
      <h2 id="speed">Speed</h2>
      <ul class="legend">
        <li>
          <span class="swatch c0" aria-hidden="true" /> writes <strong>{now.write.toFixed(0)}</strong>{" "}
          tokens/s
        </li>
        <li>
          <span class="swatch c1" aria-hidden="true" /> reads <strong>{now.read.toFixed(0)}</strong> tokens/s
        </li>
      </ul>
      <div
        ref={place}
        class="chart"
        role="img"
        aria-label="Tokens written and read a second, over five minutes"
      />
    </section>
  );
}

function draw(home: HTMLElement): uPlot {
  const grid = { stroke: colour("--line"), width: 1 };
  const axis = { stroke: colour("--quiet"), grid, ticks: grid };
  const options: uPlot.Options = {
    width: home.clientWidth,
    height: HEIGHT,
    cursor: { show: false },
    legend: { show: false },
    scales: {
      y: { range: (_plot, _min, max) => [0, Math.max(10, max * 1.1)] },
      r: { range: (_p, _m, max) => [0, Math.max(50, max * 1.1)] },
    },
    axes: [axis, { ...axis, size: 56 }, { ...axis, scale: "r", side: 1, size: 50, grid: { show: false } }],
    series: [
      {},
      {
        stroke: colour("--c0"),
        width: 2,
        fill: `color-mix(in srgb, ${colour("--c0")} 13%, transparent)`,
        points: { show: false },
      },
      { stroke: colour("--c1"), width: 2, scale: "r", dash: [6, 3], points: { show: false } },
    ],
  };
  return new uPlot(options, [speed.at, speed.write, speed.read], home);
}
