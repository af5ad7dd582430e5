/** A reporter for node:test that prints each failure in full and one closing line with the counts. */
import type { TestEvent } from "node:test/reporters";

interface Failure {
  readonly name: string;
  readonly file: string | undefined;
  readonly error: unknown;
}

export default async function* summary(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const failures: Failure[] = [];
  let passed = 0;
  let skipped = 0;
  for await (const event of source) {
    if (event.type === "test:pass" && event.data.details.type !== "suite") {
      if (event.data.skip === undefined) passed++;
      else skipped++;
    } else if (event.type === "test:fail" && event.data.details.type !== "suite") {
      const { name, file, details } = event.data;
      failures.push({ name, file, error: details.error.cause ?? details.error });
    }
  }
  yield "\n";
  for (const { name, file, error } of failures) {
    yield `FAILED ${name} (${file ?? "?"})\n${describe(error)}\n\n`;
  }
  yield `${passed} passed, ${failures.length} failed, ${skipped} skipped\n`;
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
