// Talks to the engine that served this page. The key lives as long as the browser's tab.

const KEY = "variet-key";

export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export const key = {
  get: (): string => sessionStorage.getItem(KEY) ?? "",
  set: (value: string): void => sessionStorage.setItem(KEY, value),
  forget: (): void => sessionStorage.removeItem(KEY),
};

function headers(): Record<string, string> {
  const value = key.get();
  return value ? { authorization: `Bearer ${value}` } : {};
}

async function checked(answer: Response): Promise<Response> {
  if (answer.ok) return answer;
  throw new Refused(answer.status, words(await answer.text()) || `${answer.status} ${answer.statusText}`);
}

/** The sentence in an error body, whichever of the engine's shapes it has. */
export function words(text: string): string {
  try {
    const body = JSON.parse(text);
    const said = body.error?.message ?? body.detail?.message ?? body.detail;
    return typeof said === "string" ? said : text.slice(0, 300);
  } catch {
    return text.slice(0, 300);
  }
}

export async function get<T>(path: string): Promise<T> {
  return (await checked(await fetch(path, { headers: headers() }))).json() as Promise<T>;
}

export async function getText(path: string): Promise<string> {
  return (await checked(await fetch(path, { headers: headers() }))).text();
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  const init = {
    method: "POST",
    headers: { ...headers(), "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  return (await checked(await fetch(path, init))).json() as Promise<T>;
}

export type Told = (kind: string, data: unknown) => void;

/** Server-sent events until the engine ends them; EventSource could not send a key. Throws Refused. */
export async function listen(path: string, since: string, told: Told, signal: AbortSignal): Promise<string> {
  const extra: Record<string, string> = since ? { "last-event-id": since } : {};
  const answer = await checked(
    await fetch(path, { headers: { ...headers(), accept: "text/event-stream", ...extra }, signal }),
  );
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let last = since;
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    const events = (rest + value).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) last = tell(event, told) ?? last;
  }
  return last;
}

function tell(event: string, told: Told): string | undefined {
  let kind = "";
  let data = "";
  let id: string | undefined;
  for (const line of event.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
    else if (line.startsWith("id: ")) id = line.slice(4);
  }
  if (kind && data) told(kind, JSON.parse(data));
  return id;
}
