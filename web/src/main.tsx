import { render } from "preact";
import { useEffect } from "preact/hooks";
import { Header } from "./Header";
import { Journal } from "./Journal";
import { KeyForm } from "./KeyForm";
import { Logs } from "./Logs";
import { Memory } from "./Memory";
import { Recent, UnderWay } from "./Requests";
import { Speed } from "./Speed";
import { Swaps } from "./Swaps";
import { follow, useKnowledge } from "./store";
import { Tiers } from "./Tiers";
import { Usage } from "./Usage";
import "uplot/dist/uPlot.min.css";
import "./style.css";

function Page() {
  const known = useKnowledge();
  useEffect(() => void follow(), []);
  const { status } = known;
  return (
    <>
      <a class="skip" href="#main">
        Skip to the tiers
      </a>
      <Header known={known} />
      <main id="main" tabIndex={-1}>
        {known.connection === "key" && <KeyForm problem={known.problem} />}
        {!status && known.connection !== "key" && <p class="quiet">Asking the engine…</p>}
        {status && known.connection !== "key" && (
          <>
            <Tiers status={status} />
            <UnderWay status={status} />
            <div class="two">
              <Memory status={status} />
              <Speed />
            </div>
            <Swaps status={status} before={known.before} />
            <Recent rows={known.recent} />
            <Usage done={status.requests.done} />
            <div class="two">
              <Journal moments={status.journal} />
              <Logs status={status} />
            </div>
          </>
        )}
      </main>
    </>
  );
}

const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<Page />, root);
}
