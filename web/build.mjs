// Builds the dashboard into the engine's package, where the engine serves it from.
import { cp, mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const out = new URL("../src/variet/engine/web/", import.meta.url);
await mkdir(out, { recursive: true });
await build({
  entryPoints: { app: "src/main.tsx" },
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  outdir: fileURLToPath(out),
  legalComments: "inline",
});
await cp("src/index.html", new URL("index.html", out));
await cp("src/icon.svg", new URL("icon.svg", out));
