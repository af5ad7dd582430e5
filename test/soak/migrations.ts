/** `node test/soak/migrations.ts [--count 50] [--seed S] [--codecs] [--json]`: many migrations in a row, a line for each. */
import { parseArgs } from "node:util";
import { soak } from "./soak.ts";

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "50" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    codecs: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const seed = Number(values.seed);
const line = (text: string): void => {
  if (!values.json) console.log(text);
};
line(`seed ${seed}`);
const report = await soak({ count: Number(values.count), seed, withCodecs: values.codecs, line });
if (values.json) console.log(JSON.stringify(report));
for (const thing of report.leftovers) line(`left over: ${thing}`);
const mebibytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
line(
  `workers used at most ${mebibytes(report.workerBytesFirst)} in the first ten, ` +
    `${mebibytes(report.workerBytesLast)} in the last ten; downtime at most ${report.downtimeMsMax} ms; ${report.seconds} s`,
);
line(`${report.passed} passed, ${report.failed} failed`);
process.exitCode = report.failed > 0 || report.leftovers.length > 0 ? 1 : 0;
