/**
 * node bench/codec/report.ts FILE.jsonl: puts the figures of `npm run bench -- codec --json` into docs/GUIDELINES.md, and the
 * pictures beside it. What was not measured says so.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { picture } from "../../src/advise/index.ts";
import { fill } from "./guidelines.ts";
import { type CodecRow, readRows } from "./rows.ts";
import { judgedIntervalMs, tunedOn } from "./settings.ts";

const documents = join(import.meta.dirname, "../../docs");
const [path] = process.argv.slice(2);
if (path === undefined) {
  console.error("usage: node bench/codec/report.ts FILE.jsonl");
  process.exit(2);
}

const rows = readRows(path);
const guidelines = join(documents, "GUIDELINES.md");
const filled = fill(readFileSync(guidelines, "utf8"), rows);
writeFileSync(
  guidelines,
  withPictures(filled, drawAll(rows.filter((row) => row.bench === "codec"))),
);

/** One for each trace; answers their names. */
function drawAll(all: readonly CodecRow[]): string[] {
  const shown = all.filter(
    ({ kind, phase, intervalMs }) =>
      kind === "godwit" && phase === "epochs" && intervalMs === judgedIntervalMs,
  );
  const traces = [...new Set(shown.map(({ trace }) => trace))];
  mkdirSync(join(documents, "pictures"), { recursive: true });
  for (const trace of traces) {
    const points = shown
      .filter((row) => row.trace === trace)
      .map((row) => ({ ...row, label: row.method }));
    const use = tunedOn.includes(trace) ? "settings were tuned on this trace" : "held out";
    const subtitle = `epochs of ${judgedIntervalMs} ms; ${use}`;
    const drawn = picture(points, { title: `Dirty pages of ${trace}`, subtitle });
    writeFileSync(join(documents, `pictures/codec-${trace}.svg`), drawn);
  }
  return traces;
}

function withPictures(document: string, traces: readonly string[]): string {
  const links = traces.map((trace) => `![${trace}](pictures/codec-${trace}.svg)`);
  const text = links.length === 0 ? "Not yet measured." : links.join("\n\n");
  return document.replace(
    /(<!-- codec-pictures -->\n)[^]*?(<!-- end -->)/,
    (_, begin: string, end: string) => `${begin}${text}\n${end}`,
  );
}
