/** A reporter for node:test that prints each failure in full, where the time went, and one closing line with the counts. */
import { relative } from "node:path";
import type { TestEvent } from "node:test/reporters";

type TestFailed = Extract<TestEvent, { type: "test:fail" }>["data"]["details"];

interface Failure {
  readonly name: string;
  readonly file: string | undefined;
  readonly error: unknown;
}

/** Files told, if they took longer. */
const slowFilesMax = 16;
const slowMsMin = 10_000;

export default async function* summary(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const failures: Failure[] = [];
  const msOf = new Map<string, number>();
  let passed = 0;
  let skipped = 0;
  for await (const event of source) {
    if ((event.type === "test:pass" || event.type === "test:fail") && event.data.nesting === 0) {
      const { file = "?", details } = event.data;
      msOf.set(file, (msOf.get(file) ?? 0) + details.duration_ms);
    }
    if (event.type === "test:pass" && event.data.details.type !== "suite") {
      if (event.data.skip === undefined) passed++;
      else skipped++;
    } else if (event.type === "test:fail" && !isOnlyOfTests(event.data.details)) {
      const { name, file, details } = event.data;
      failures.push({ name, file, error: details.error.cause ?? details.error });
    }
  }
  yield "\n";
  for (const { name, file, error } of failures) {
    yield `FAILED ${name} (${file ?? "?"})\n${describe(error)}\n\n`;
  }
  yield slowest(msOf);
  yield `${passed} passed, ${failures.length} failed, ${skipped} skipped\n`;
}

/** A suite that failed because tests in it did, which are told themselves. */
function isOnlyOfTests({ type, error }: TestFailed): boolean {
  const { failureType } = error as { readonly failureType?: string };
  return type === "suite" && failureType === "subtestsFailed";
}

function slowest(msOf: ReadonlyMap<string, number>): string {
  const slow = [...msOf].filter(([, ms]) => ms >= slowMsMin).toSorted(([, a], [, b]) => b - a);
  if (slow.length === 0) return "";
  const told = slow
    .slice(0, slowFilesMax)
    .map(([file, ms]) => `${relative(".", file)} ${Math.round(ms / 1000)} s`);
  return `longest: ${told.join(", ")}\n`;
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
