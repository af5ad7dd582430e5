import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  checkDefinition,
  diskFormat,
  loadDefinition,
  networkMac,
  parseDefinition,
  vmUuid,
} from "./definition.ts";
import { definitionJsonSchema, parseSize } from "./schema.ts";

const minimal = "name: web\nmemory: 512M\n";

function refuses(text: string, message: RegExp): void {
  assert.throws(() => parseDefinition(text, { source: "vm.yaml" }), {
    code: "DEFINITION_INVALID",
    message,
  });
}

test("a minimal definition gets its defaults", () => {
  assert.deepEqual(parseDefinition(minimal), {
    name: "web",
    memory: 512 * 2 ** 20,
    vcpus: 1,
    machine: "q35",
    accelerator: "auto",
    disks: [],
    networks: [],
    agent: true,
    balloon: true,
    rng: true,
    extraArguments: [],
  });
});

test("sizes are powers of two and need a unit", () => {
  assert.equal(parseSize("5G"), 5 * 2 ** 30);
  assert.equal(parseSize("1.5GiB"), 1.5 * 2 ** 30);
  assert.equal(parseSize("64k"), 65_536);
  for (const text of ["512", "", "-1M", "5X", "9999999999T"]) {
    assert.equal(parseSize(text), undefined, text);
  }
});

test("an error names file, line and path", () => {
  refuses("name: web\nmemory: 512\n", /^vm\.yaml:2: memory: /);
  refuses(`${minimal}vcpus: 0\n`, /^vm\.yaml:3: vcpus: /);
  refuses(`${minimal}disks:\n  - file: a\n    cache: maybe\n`, /^vm\.yaml:5: disks\.0\.cache: /);
  refuses(`${minimal}nteworks: []\n`, /^vm\.yaml:3: unknown key nteworks/);
  refuses("memory: 1G\n", /^vm\.yaml:1: name: missing/);
  refuses("name: web\n", /^vm\.yaml:1: memory: missing/);
  refuses("name: [\n", /^vm\.yaml:\d: /);
  refuses("", /^vm\.yaml:1: /);
});

test("all errors are told at once", () => {
  refuses("name: ''\nmemory: 1\nvcpus: x\n", /name.*\n.*memory.*\n.*vcpus/);
});

test("memory is a whole number of mebibytes", () => {
  refuses("name: web\nmemory: 1.3M\n", /whole mebibytes/);
  refuses("name: web\nmemory: -1M\n", /like "512M" or "5G"/);
});

test("what the schema cannot say is checked too", () => {
  refuses(`${minimal}disks: [{}]\n`, /disks\.0: give either file or nbd/);
  refuses(`${minimal}disks: [{file: a, nbd: {socket: b}}]\n`, /either file or nbd/);
  refuses(`${minimal}initrd: a\n`, /initrd: needs kernel/);
  refuses(`${minimal}machine: microvm\ndisks: [{file: a, interface: ide}]\n`, /has no ide/);
  refuses(`${minimal}machine: "q35,accel=kvm"\n`, /machine/);
  refuses(`${minimal}networks: [{type: tap, interface: a, mac: "01:00:00:00:00:00"}]\n`, /unicast/);
});

test("relative paths are taken from the file's folder", async () => {
  const directory = await mkdtemp(join(tmpdir(), "godwit-definition-"));
  const path = join(directory, "vm.yaml");
  await writeFile(path, `${minimal}kernel: vmlinuz\ndisks: [{file: a.qcow2}, {file: /b}]\n`);
  const definition = await loadDefinition(path);
  assert.equal(definition.kernel, join(directory, "vmlinuz"));
  assert.deepEqual(
    definition.disks.map((disk) => [disk.file, diskFormat(disk)]),
    [
      [join(directory, "a.qcow2"), "qcow2"],
      ["/b", "raw"],
    ],
  );
  await rm(directory, { recursive: true });
});

test("a file that is not there is NOT_FOUND", async () => {
  await assert.rejects(loadDefinition("/nonexistent.yaml"), { code: "NOT_FOUND" });
});

test("a value from a program is checked the same way", () => {
  assert.equal(checkDefinition({ name: "a", memory: "1G" }).memory, 2 ** 30);
  assert.throws(() => checkDefinition(undefined), { code: "DEFINITION_INVALID" });
});

test("a checked definition passes the check again, unchanged, as it travels between hosts", () => {
  const disks = "disks: [{file: /a, cache: none}, {nbd: {socket: /n}}]\n";
  const networks = "networks: [{type: user, forwards: [{hostPort: 1, guestPort: 2}]}]\n";
  const definition = parseDefinition(`${minimal}kernel: /k\n${disks}${networks}`);
  assert.deepEqual(checkDefinition(definition), definition);
});

test("addresses and UUID depend on the name and the position only", () => {
  const text = `${minimal}networks: [{type: user}, {type: user}]\n`;
  const [one, two] = [parseDefinition(text), parseDefinition(`${text}vcpus: 4\n`)];
  assert.equal(networkMac(one, 0), networkMac(two, 0));
  assert.notEqual(networkMac(one, 0), networkMac(one, 1));
  assert.match(networkMac(one, 0), /^52(:[0-9a-f]{2}){5}$/);
  assert.equal(vmUuid(one), vmUuid(two));
  assert.match(
    vmUuid(one),
    /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
  const given = parseDefinition(`${minimal}networks: [{type: user, mac: "52:54:00:AA:BB:CC"}]\n`);
  assert.equal(networkMac(given, 0), "52:54:00:aa:bb:cc");
});

test("a definition from a peer is bounded, and so is what is said of it", () => {
  const base = { name: "web", memory: "512M" };
  const long = "x".repeat(4097);
  const forwards = Array.from({ length: 257 }, () => ({ hostPort: 1, guestPort: 1 }));
  const refused = [
    { kernel: long },
    { kernel: "k", commandLine: long },
    { cpu: long },
    { extraArguments: [long] },
    { extraArguments: Array(257).fill("-S") },
    { disks: [{ nbd: { socket: "s", export: long } }] },
    { networks: [{ type: "user", forwards }] },
  ];
  for (const more of refused) {
    assert.throws(() => checkDefinition({ ...base, ...more }), { code: "DEFINITION_INVALID" });
  }
  const said = (value: object): string => {
    try {
      checkDefinition(value);
    } catch (error) {
      return (error as Error).message;
    }
    return "";
  };
  const lines = said({ ...base, extraArguments: Array(200).fill(1) }).split("\n");
  assert.equal(lines.length, 21);
  assert.match(lines.at(-1) ?? "", /and 180 more/);
  const wide = said({ ...base, ["é".repeat(100_000)]: 1 });
  assert.ok(wide !== "" && Buffer.byteLength(wide) <= 4096, String(Buffer.byteLength(wide)));
});

test("docs/vm-definition.schema.json is the schema", async () => {
  const path = new URL("../../../docs/vm-definition.schema.json", import.meta.url);
  assert.deepEqual(
    JSON.parse(await readFile(path, "utf8")),
    JSON.parse(JSON.stringify(definitionJsonSchema())),
    "regenerate: node -e 'import(\"./src/qemu/launch/index.ts\").then(m => console.log(JSON.stringify(m.definitionJsonSchema(), null, 2)))' > docs/vm-definition.schema.json && biome format --write docs",
  );
});
