/** What is asked of every file in the tree. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";

const tracked = execFileSync("git", ["ls-files", "-z", "-co", "--exclude-standard"], {
  encoding: "utf8",
})
  .split("\0")
  .filter((file) => file !== "" && existsSync(file));
const text = tracked.filter(
  (file) => /\.(ts|c|h|md|sh|json|yaml|toml)$/.test(file) && file !== "package-lock.json",
);

test("no source file is longer than 800 lines", () => {
  const long = tracked
    .filter((file) => /\.(ts|c)$/.test(file))
    .map((file) => ({ file, lines: readFileSync(file, "utf8").split("\n").length }))
    .filter(({ lines }) => lines > 800);
  assert.deepEqual(long, []);
});

test("no notes to self, no focused tests, no debugger", () => {
  const own = "test/tidy/files.test.ts";
  const banned = /\b(TODO|FIXME|XXX)\b|\b(?:test|it|describe)\.only\(|^\s*debugger;/m;
  const found = text.filter((file) => file !== own && banned.test(readFileSync(file, "utf8")));
  assert.deepEqual(found, []);
});

test("links in the documentation lead somewhere", () => {
  const broken: string[] = [];
  for (const file of text.filter((name) => name.endsWith(".md"))) {
    for (const match of readFileSync(file, "utf8").matchAll(
      /\]\((?!https?:|#|mailto:)([^)#\s]+)/g,
    )) {
      const target = normalize(join(dirname(file), match[1] as string));
      if (!existsSync(target)) broken.push(`${file}: ${match[1]}`);
    }
  }
  assert.deepEqual(broken, []);
});

test("files named in the documentation exist", () => {
  const broken: string[] = [];
  for (const file of text.filter((name) => name.endsWith(".md"))) {
    const named = readFileSync(file, "utf8").matchAll(
      /`((?:src|test|bench|scripts|guest|docs)\/[\w./-]+\.(?:ts|c|md|sh|json))`/g,
    );
    for (const match of named) {
      if (!existsSync(match[1] as string)) broken.push(`${file}: ${match[1]}`);
    }
  }
  assert.deepEqual(broken, []);
});
