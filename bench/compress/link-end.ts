/** One end of a link whose speed is measured (link-speed.ts): `write ADDRESS`, which listens, or `read ADDRESS PORT`. */
import { connect, createServer } from "node:net";

/** Where the writer listens; what the reader got. */
export interface FromEnd {
  readonly port?: number;
  readonly bytes?: number;
  readonly ms?: number;
}

const say = (message: FromEnd): unknown => process.send?.(message);
/** Until TCP has found the rate; then what is counted. */
const warmUpMs = 500;
const measuredMs = 1_500;
const piece = Buffer.alloc(1 << 20);

function write(address: string): void {
  const server = createServer((socket) => {
    const more = (): void => {
      while (socket.write(piece)) {
        // Until it is full.
      }
    };
    // The reader is killed when it has seen enough.
    socket.on("drain", more).on("error", () => process.exit());
    more();
  });
  server.listen(0, address, () => {
    const found = server.address();
    say({ port: found !== null && typeof found === "object" ? found.port : 0 });
  });
}

/** Into one buffer, as godwit and QEMU read: an own one for each piece would cost more than the network. */
function read(host: string, port: number): void {
  const startMs = performance.now();
  let fromMs: number | undefined;
  let bytes = 0;
  const callback = (length: number): boolean => {
    const nowMs = performance.now();
    if (fromMs === undefined) {
      if (nowMs - startMs >= warmUpMs) fromMs = nowMs;
      return true;
    }
    bytes += length;
    if (nowMs - fromMs < measuredMs) return true;
    say({ bytes, ms: nowMs - fromMs });
    return false;
  };
  connect({ host, port, onread: { buffer: piece, callback } });
}

const [role, address = "", port = ""] = process.argv.slice(2);
if (role === "read") read(address, Number(port));
else write(address);
process.on("disconnect", () => process.exit());
