/** Hostile frames: the decoder alone, and everything a destination does with a source's bytes before its QEMU sees them. */
import { PassThrough } from "node:stream";
import type { Socket } from "node:net";
import { codecIds } from "../../src/codec/index.ts";
import { encodeHead, encodeSectionEnd, writePageWord } from "../../src/qemu/stream/index.ts";
import { DestinationPump } from "../../src/migrate/destination/pump.ts";
import {
  encodeControlBody,
  encodeHeader,
  encodePreamble,
  FrameDecoder,
  type FrameHeader,
  FrameType,
  parseSourceMessage,
  plainHeader,
} from "../../src/migrate/wire/index.ts";
import { Slab, SlabReceiver } from "../../src/io/index.ts";
import type { FuzzTarget } from "./engine.ts";

function frame(header: FrameHeader, body: Uint8Array): Buffer {
  return Buffer.concat([encodeHeader(header, [body]), body]);
}

/** A record of page 3 in which every byte is 0x5a. */
const zstdPage = Buffer.from("28b52ffd60080f40000000000000000030280380005a", "hex");

/** A whole, small migration as its source sends it. */
function session(): Buffer {
  const head = encodeHead({
    machineType: "pc-q35-10.0",
    ramSectionId: 2,
    blocks: [
      { name: "pc.ram", lengthBytes: 65536 },
      { name: "vga", lengthBytes: 4096 },
    ],
    returnPath: true,
  });
  const pages = Buffer.alloc(4104 + 9);
  writePageWord(new DataView(pages.buffer, pages.byteOffset), 0, 3);
  Buffer.from("000000000000402200", "hex").copy(pages, 4104);
  const offer = encodeControlBody({
    type: "offer",
    migrationId: "m1",
    vmName: "vm",
    source: { godwitVersion: "1", qemuVersion: "10.0.13", host: "h" },
    run: true,
    verify: true,
  });
  const bodies: [FrameHeader, Uint8Array][] = [
    [plainHeader(FrameType.control, offer.length, 0), offer],
    [plainHeader(FrameType.head, head.length, 1), head],
    [
      {
        ...plainHeader(FrameType.pages, pages.length, 2),
        pageCount: 1,
        zeroCount: 1,
        rawBytes: pages.length,
      },
      pages,
    ],
    [
      {
        ...plainHeader(FrameType.pages, zstdPage.length, 3),
        codec: codecIds.zstd,
        pageCount: 1,
        rawBytes: 4104,
      },
      zstdPage,
    ],
    [plainHeader(FrameType.command, 2, 4), Uint8Array.of(0, 11)],
    [plainHeader(FrameType.ramEnd, 0, 5), new Uint8Array(0)],
    [plainHeader(FrameType.tail, 13, 6), encodeSectionEnd(9)],
  ];
  return Buffer.concat([encodePreamble(), ...bodies.map(([header, body]) => frame(header, body))]);
}

/** Damage is found by the checksum first; to get behind it, every header is given the right one again. */
function mendChecksums(bytes: Buffer): Buffer {
  for (let at = 16; at + 32 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at + 8);
    const end = Math.min(bytes.length, at + 32 + length);
    const header: FrameHeader = {
      type: bytes[at + 4] as FrameType,
      codec: bytes[at + 5] as number,
      block: bytes.readUInt16BE(at + 6),
      bodyBytes: length,
      sequence: bytes.readUInt32BE(at + 12),
      pageCount: bytes.readUInt32BE(at + 16),
      zeroCount: bytes.readUInt32BE(at + 20),
      rawBytes: bytes.readUInt32BE(at + 24),
    };
    encodeHeader(header, [bytes.subarray(at + 32, end)]).copy(bytes, at + 28, 28, 32);
    at = end;
  }
  return bytes;
}

function decode(bytes: Buffer): void {
  const slab = new Slab(bytes);
  const slabs = { slabBytes: 1 << 20, slabCount: 2, itemBytesMax: 128 << 10 };
  const pump = new DestinationPump(new SlabReceiver(slabs, (_slab, _from, to) => to), {
    loaded: () => {},
    acknowledge: () => {},
    failed: () => {},
  });
  const qemu = new PassThrough();
  qemu.resume();
  // The pump uses nothing of a socket that a stream has not.
  pump.open(qemu as unknown as Socket);
  const decoder = new FrameDecoder({
    version: () => {},
    frame: (header, body, from, to) => {
      if (header.type === FrameType.control) parseSourceMessage(body.subarray(from, to));
      else pump.frame(header, slab, from, to);
    },
  });
  decoder.push(bytes, 0, bytes.length);
}

export const frameTarget: FuzzTarget = {
  name: "frames",
  corpus: () => [session()],
  run: (bytes) => decode(Buffer.from(bytes)),
};

export const mendedFrameTarget: FuzzTarget = {
  name: "frames-behind-the-checksum",
  corpus: () => [session()],
  run: (bytes) => decode(mendChecksums(Buffer.from(bytes))),
};
