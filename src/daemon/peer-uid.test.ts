import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { findUid, peerUid } from "./peer-uid.ts";

const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";
const rest = "00000000:00000000 00:00000000 00000000";
/** Peer: port 0x9C40 (40000), uid 1000. Ours: port 0x1D2E (7470). */
const established = `   1: 0100007F:9C40 0100007F:1D2E 01 ${rest}  1000 0 1 1\n`;
const endpoints = {
  remoteAddress: "127.0.0.1",
  remotePort: 40_000,
  localAddress: "127.0.0.1",
  localPort: 7470,
};

test("the owner of the peer's socket is found by its ports", () => {
  const ours = `   0: 0100007F:1D2E 0100007F:9C40 01 ${rest}     0 0 1 1\n`;
  assert.equal(findUid(head + ours + established, endpoints), 1000);
  assert.equal(findUid(head + ours, endpoints), undefined);
});

test("a socket that its owner has closed says nothing (uid 0 there is nobody's)", () => {
  const closed = established.replace(" 01 ", " 06 ").replace("  1000", "     0");
  assert.equal(findUid(head + closed, endpoints), undefined);
});

test("a socket of another machine with the same ports is not the peer's", () => {
  const other = established.replaceAll("0100007F", "0A00000A");
  assert.equal(findUid(head + other, endpoints), undefined);
});

test("a socket with the same ports between other loopback addresses is not the peer's", () => {
  const other = established.replace("0100007F:9C40", "0200007F:9C40");
  assert.equal(findUid(head + other, endpoints), undefined);
  assert.equal(findUid(head + other, { ...endpoints, remoteAddress: "127.0.0.2" }), 1000);
  assert.equal(findUid(head + other, { ...endpoints, localAddress: "127.0.0.2" }), undefined);
});

test("IPv4 addresses are the same in IPv6's form", () => {
  const mapped = { remoteAddress: "::ffff:127.0.0.1", localAddress: "::ffff:127.0.0.1" };
  assert.equal(findUid(head + established, { ...endpoints, ...mapped }), 1000);
  const tcp6 = established.replaceAll("0100007F", "0000000000000000FFFF00000100007F");
  assert.equal(findUid(head + tcp6, endpoints), 1000);
  const six = established.replaceAll("0100007F", "00000000000000000000000001000000");
  assert.equal(findUid(head + six, endpoints), undefined);
  assert.equal(
    findUid(head + six, { ...endpoints, remoteAddress: "::1", localAddress: "::1" }),
    1000,
  );
});

test("if several sockets could be the peer's, none is believed", () => {
  assert.equal(
    findUid(head + established + established.replace("  1000", "     0"), endpoints),
    undefined,
  );
});

for (const host of ["127.0.0.1", "::1"]) {
  test(`a connection of this process is its user's (${host})`, async () => {
    const server = createServer({ pauseOnConnect: true });
    const accepted = new Promise<Socket>((resolve) => {
      server.on("connection", resolve);
    });
    const port = await new Promise<number>((resolve) => {
      server.listen(0, host, () => resolve((server.address() as { port: number }).port));
    });
    const client = connect(port, host);
    const socket = await accepted;
    const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = socket;
    const uid = await peerUid({ remoteAddress, remotePort, localAddress, localPort });
    assert.equal(uid, process.getuid?.());
    client.destroy();
    socket.destroy();
    server.close();
  });
}
