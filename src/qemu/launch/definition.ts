/** From a YAML (or JSON) file to a checked `VmDefinition`, with errors that name the place in the file. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { type Document, isMap, isNode, LineCounter, type Pair, parseDocument } from "yaml";
import type { z } from "zod";
import { GodwitError } from "../../base/index.ts";
import { type DiskDefinition, definitionSchema, type VmDefinition } from "./schema.ts";

/** Reads and checks a definition. Relative paths in it are taken from the file's folder. */
export async function loadDefinition(path: string): Promise<VmDefinition> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GodwitError("NOT_FOUND", `cannot read the VM definition ${path}: ${why}`, { cause });
  }
  return parseDefinition(text, { source: path, baseDirectory: dirname(resolve(path)) });
}

/** What is said of a definition that is wrong crosses the network, too. */
const issuesMax = 20;
const problemsBytesMax = 4096;

/** As `loadDefinition`, from text; `source` names it in errors. Fails with DEFINITION_INVALID. */
export function parseDefinition(
  text: string,
  options: { source?: string; baseDirectory?: string } = {},
): VmDefinition {
  const source = options.source ?? "VM definition";
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = document.errors[0];
  if (broken !== undefined) {
    const line = lines.linePos(broken.pos[0]).line;
    throw invalid([`${source}:${line}: ${broken.message}`]);
  }
  const result = definitionSchema.safeParse(document.toJS(), { reportInput: true });
  if (!result.success) {
    const { issues } = result.error;
    const origin = { source, lines, document };
    const problems = issues.slice(0, issuesMax).map((issue) => describeIssue(issue, origin));
    const more = issues.length - issuesMax;
    throw invalid(more > 0 ? [...problems, `${source}: and ${more} more`] : problems);
  }
  const problems = contradictions(result.data).map((problem) => `${source}: ${problem}`);
  if (problems.length > 0) throw invalid(problems);
  return withAbsolutePaths(result.data, options.baseDirectory ?? process.cwd());
}

/** As `parseDefinition`, from a value that came from a program (the API, a peer). */
export function checkDefinition(value: unknown): VmDefinition {
  return parseDefinition(JSON.stringify(value ?? null));
}

interface Origin {
  readonly source: string;
  readonly lines: LineCounter;
  readonly document: Document;
}

type Issue = z.core.$ZodIssue;

function describeIssue(issue: Issue, origin: Origin): string {
  const path = issue.path.map(String);
  // An unknown key is reported for the map that holds it.
  const key = issue.code === "unrecognized_keys" ? issue.keys[0] : undefined;
  const line = lineOf(key === undefined ? path : [...path, key], origin);
  const where = path.length === 0 ? "" : `${path.join(".")}: `;
  return `${origin.source}:${line}: ${where}${issueText(issue)}`;
}

function issueText(issue: Issue): string {
  if (issue.code === "unrecognized_keys") return `unknown key ${issue.keys.join(", ")}`;
  if (issue.code === "invalid_type" && issue.input === undefined && issue.path.length > 0) {
    return `missing (expected ${issue.expected})`;
  }
  if (issue.code === "invalid_union" && issue.input === undefined)
    return `missing; ${issue.message}`;
  return issue.message;
}

/** The line of the deepest part of `path` that is there; 1 when nothing is. */
function lineOf(path: readonly string[], { document, lines }: Origin): number {
  let node: unknown = document.contents;
  let offset = 0;
  for (const part of path) {
    const pair = isMap(node) ? node.items.find((item) => keyText(item) === part) : undefined;
    const keyStart = isNode(pair?.key) ? pair.key.range?.[0] : undefined;
    node = childOf(node, part);
    const start = keyStart ?? (isNode(node) ? node.range?.[0] : undefined);
    if (start === undefined) break;
    offset = start;
  }
  return lines.linePos(offset).line;
}

function keyText(pair: Pair): string {
  return String(pair.key);
}

function childOf(node: unknown, part: string): unknown {
  if (!isNode(node) || !("get" in node) || typeof node.get !== "function") return undefined;
  return node.get(/^\d+$/.test(part) ? Number(part) : part, true);
}

/** What the schema cannot say. */
function contradictions(definition: VmDefinition): string[] {
  const problems: string[] = [];
  const microvm = definition.machine === "microvm";
  for (const [index, disk] of definition.disks.entries()) {
    if ((disk.file === undefined) === (disk.nbd === undefined)) {
      problems.push(`disks.${index}: give either file or nbd`);
    }
    if (microvm && disk.interface === "ide") {
      problems.push(`disks.${index}.interface: a microvm has no ide; use virtio-blk`);
    }
  }
  if (definition.kernel === undefined && definition.initrd !== undefined) {
    problems.push("initrd: needs kernel");
  }
  if (definition.kernel === undefined && definition.commandLine !== undefined) {
    problems.push("commandLine: needs kernel");
  }
  return problems;
}

function withAbsolutePaths(definition: VmDefinition, base: string): VmDefinition {
  const { kernel, initrd, binary } = definition;
  return {
    ...definition,
    ...(kernel === undefined ? {} : { kernel: resolve(base, kernel) }),
    ...(initrd === undefined ? {} : { initrd: resolve(base, initrd) }),
    // A bare name is looked up on PATH.
    ...(binary?.includes("/") === true ? { binary: resolve(base, binary) } : {}),
    disks: definition.disks.map((disk) =>
      disk.file === undefined ? disk : { ...disk, file: resolve(base, disk.file) },
    ),
  };
}

/** The image format that QEMU is told. It is never guessed from the content, which the guest controls. */
export function diskFormat(disk: DiskDefinition): "raw" | "qcow2" {
  return disk.format ?? (disk.file?.endsWith(".qcow2") === true ? "qcow2" : "raw");
}

/**
 * The card's address: given, or 0x52 (locally administered, unicast) and 40 bits of a hash of the VM's name and the
 * card's position. QEMU's usual 52:54:00 would leave 24 bits, where 1,000 VMs collide with a probability of 3 %.
 */
export function networkMac(definition: VmDefinition, index: number): string {
  const given = definition.networks[index]?.mac;
  if (given !== undefined) return given;
  const bytes = hash(`mac ${definition.name} ${index}`).subarray(0, 5);
  return ["52", ...Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"))].join(":");
}

/** Given, or an RFC 9562 version 8 UUID from the VM's name. */
export function vmUuid(definition: VmDefinition): string {
  if (definition.uuid !== undefined) return definition.uuid;
  const hex = hash(`uuid ${definition.name}`).toString("hex");
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 3) | 8).toString(16);
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join("-");
}

function hash(text: string): Buffer {
  return createHash("sha256").update(`godwit ${text}`).digest();
}

function invalid(problems: readonly string[]): GodwitError {
  const text = shorten(problems.join("\n"), problemsBytesMax);
  return new GodwitError("DEFINITION_INVALID", text, {
    details: { problems: text.split("\n") },
  });
}

function shorten(text: string, bytesMax: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= bytesMax) return text;
  // What is left of a character that was cut becomes U+FFFD, three bytes.
  return `${bytes.subarray(0, bytesMax - 6).toString()}…`.replace(/\uFFFD…$/, "…");
}
