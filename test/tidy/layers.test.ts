/**
 * The walls between folders. The table is the one of docs/ARCHITECTURE.md; a new folder needs a row there and here.
 */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { test } from "node:test";

/** Who may import whom, besides `base` and itself. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: [],
  io: [],
  qemu: ["io"],
  codec: ["io"],
  assist: ["io"],
  migrate: ["io", "qemu", "codec", "assist"],
  trace: ["io", "qemu", "codec"],
  advise: ["io", "codec", "trace"],
  api: [],
  daemon: ["io", "qemu", "codec", "assist", "migrate", "trace", "advise", "api"],
  cli: ["api"],
};

/** Files that know no outside at all: time and chance arrive as arguments. */
const pureNames =
  /(^|\/)(machine|encode|decode|format|rounds|rate|skip-map|reader|writer|records)\.ts$/;
/** Where the machine's clock and chance may be read. */
const ownsTheClock = /^src\/(io|cli)\//;

interface Import {
  readonly file: string;
  readonly target: string;
}

const sources = globSync("src/**/*.ts").filter((file) => !file.endsWith(".test.ts"));

function importsOf(file: string): Import[] {
  const text = readFileSync(file, "utf8");
  const found = text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g);
  return [...found].map((match) => ({ file, target: match[1] as string }));
}

function folderOf(file: string): string {
  return file.split("/")[1] ?? "";
}

const imports = sources.flatMap(importsOf);

test("every folder imports only what the table allows", () => {
  const broken: string[] = [];
  for (const { file, target } of imports) {
    if (!target.startsWith(".")) continue;
    const from = folderOf(file);
    const path = relative(".", normalize(join(dirname(file), target)));
    const to = path.startsWith("src/") ? folderOf(path) : path;
    const allowed = mayImport[from];
    assert(allowed !== undefined, `folder src/${from} is not in the table`);
    if (to !== from && to !== "base" && !allowed.includes(to))
      broken.push(`${file} imports ${target}`);
  }
  assert.deepEqual(broken, []);
});

test("a folder is entered through its index.ts", () => {
  const broken = imports
    .filter(({ target }) => target.startsWith("."))
    .filter(({ file, target }) => {
      const path = relative(".", normalize(join(dirname(file), target)));
      return folderOf(path) !== folderOf(file) && !path.endsWith("/index.ts");
    })
    .map(({ file, target }) => `${file} imports ${target}`);
  assert.deepEqual(broken, []);
});

test("pure files import neither io nor node", () => {
  const broken = imports
    .filter(({ file }) => pureNames.test(file))
    .filter(({ target }) => target.startsWith("node:") || /(^|\/)io\//.test(target))
    .map(({ file, target }) => `${file} imports ${target}`);
  assert.deepEqual(broken, []);
});

test("wall clock and chance are read only in io", () => {
  const banned =
    /\b(Date\.now|new Date\(\)|performance\.now|Math\.random|setTimeout|setInterval)\b/;
  const broken = sources
    .filter((file) => !ownsTheClock.test(file))
    .filter((file) =>
      banned.test(readFileSync(file, "utf8").replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, "")),
    );
  assert.deepEqual(broken, []);
});

test("nothing in src imports tests, benchmarks or scripts", () => {
  const broken = imports
    .filter(({ target }) => /(^|\/)(test|bench|scripts)\//.test(target))
    .map(({ file, target }) => `${file} imports ${target}`);
  assert.deepEqual(broken, []);
});

test("every source file is imported by somebody", () => {
  const known = new Set(
    globSync("{src,test,bench,scripts,guest}/**/*.ts")
      .flatMap(importsOf)
      .filter(({ target }) => target.startsWith("."))
      .map(({ file, target }) => normalize(join(dirname(file), target))),
  );
  // Entry points: started by path, not imported.
  const started = /^src\/(cli\/main|(migrate|trace)\/worker|daemon\/.*-main)\.ts$/;
  const dead = sources.filter((file) => !known.has(file) && !started.test(file));
  assert.deepEqual(dead, []);
});
