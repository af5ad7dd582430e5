/** The ways that are compared: godwit's codecs one by one, godwit's own choice among them, and what QEMU compresses with. */
import { type CodecChoice, codecMemoryBytesDefault, codecNames } from "../../src/codec/index.ts";
import type { Case } from "../migrate/case.ts";
import { godwitCase } from "../migrate/godwit-case.ts";
import { qemuCase } from "../migrate/qemu-case.ts";
import { relayed } from "./relay.ts";

/** What godwit's codecs remember of earlier pages, and QEMU's XBZRLE as well (its default is a quarter of that). */
const historyBytes = codecMemoryBytesDefault;

const qemuCases: readonly Case[] = [
  qemuCase({
    name: "qemu-xbzrle",
    capabilities: ["xbzrle"],
    parameters: { "xbzrle-cache-size": historyBytes },
  }),
  qemuCase({
    name: "qemu-multifd-zstd",
    capabilities: ["multifd"],
    parameters: {
      "multifd-channels": 2,
      "multifd-compression": "zstd",
      "multifd-zstd-level": 1,
    },
  }),
];

export const cases: readonly Case[] = [
  ...codecNames.map(compressed),
  compressed("auto"),
  ...qemuCases,
  qemuCase({ name: "relay-c-zstd", between: relayed }),
];

/** The others (zero, gzip, delta, similarity, and the relay in C) can be asked for by name. */
export const usualCases: readonly string[] = [
  "godwit-none",
  "godwit-zstd",
  "godwit-lz4",
  "godwit-hybrid",
  "godwit-auto",
  "qemu-xbzrle",
  "qemu-multifd-zstd",
];

/** What a guest knows of its memory is another bench's question: no assistance. */
function compressed(compress: CodecChoice): Case {
  const options = { assist: "off", compress, compressMemoryBytes: historyBytes } as const;
  return godwitCase(`godwit-${compress}`, options);
}
