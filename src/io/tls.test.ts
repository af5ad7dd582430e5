import assert from "node:assert/strict";
import { once } from "node:events";
import { copyFile, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { connect as connectPlain, createServer as createPlainServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type ConnectionOptions, connect, createServer, type TlsOptions } from "node:tls";
import { systemClock } from "./clock.ts";
import { acceptTls, loadTlsCredentials } from "./tls.ts";
import { createPrivateCa, issueHostCertificates } from "./tls-issue.ts";

const wide = { dnsNames: ["localhost"], ipAddresses: ["127.0.0.1", "::1"] };
let root = "";
let hostA = "";
let hostB = "";
let stranger = "";

before(async () => {
  root = await mkdtemp(join(tmpdir(), "godwit-tls-"));
  await createPrivateCa(join(root, "ca"));
  await createPrivateCa(join(root, "other"));
  hostA = await issueHostCertificates(join(root, "ca"), "host-a", wide);
  hostB = await issueHostCertificates(join(root, "ca"), "host-b");
  stranger = await issueHostCertificates(join(root, "other"), "stranger", wide);
});

after(() => rm(root, { recursive: true }));

/** One byte from the server, and one back: only then have both sides accepted each other. */
async function handshake(server: TlsOptions, client: ConnectionOptions): Promise<string> {
  const listener = createServer(server, (socket) => {
    socket.on("error", () => {});
    socket.end(socket.authorized ? "ok" : "unauthorized");
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  const port = typeof address === "object" ? (address?.port ?? 0) : 0;
  try {
    return await new Promise<string>((resolve, reject) => {
      const socket = connect({ ...client, host: "127.0.0.1", port });
      let text = "";
      socket.on("data", (bytes) => {
        text += bytes.toString();
      });
      socket.on("error", reject);
      socket.on("end", () => resolve(`${text} ${socket.getProtocol()}`));
    });
  } finally {
    listener.close();
  }
}

const load = (host: string) => loadTlsCredentials(host, systemClock);
const serverOf = async (host: string) => (await load(host)).serverOptions();
const clientOf = async (host: string, name: string) => (await load(host)).clientOptions(name);

test("two hosts of one authority accept each other, by name and by address", async () => {
  const server = await serverOf(hostA);

  assert.equal(await handshake(server, await clientOf(hostB, "localhost")), "ok TLSv1.3");
  assert.equal(await handshake(server, await clientOf(hostB, "127.0.0.1")), "ok TLSv1.3");
});

test("a server of another authority is refused by the client", async () => {
  const server = await serverOf(stranger);
  const client = await clientOf(hostB, "localhost");
  await assert.rejects(handshake(server, client), /self.signed|unable to (get|verify)|signature/i);
});

test("a client of another authority is refused by the server", async () => {
  const server = await serverOf(hostA);
  const client = await clientOf(stranger, "localhost");
  // Node ends the connection without an alert; what counts is that nobody was let in.
  assert.equal(await handshake(server, { ...client, rejectUnauthorized: false }), " TLSv1.3");
});

test("a client without certificate is refused by the server", async () => {
  const server = await serverOf(hostA);
  const { cert: _, key: __, ...client } = await clientOf(hostB, "localhost");
  await assert.rejects(handshake(server, client), /certificate required/i);
});

test("a server of another name is refused by the client, which says what it found", async () => {
  const server = await serverOf(hostA);

  await assert.rejects(handshake(server, await clientOf(hostB, "host-b")), {
    code: "TLS",
    message: /certificate of host-b is for DNS:localhost/,
  });
  await assert.rejects(handshake(server, await clientOf(hostB, "10.0.0.1")), { code: "TLS" });
});

/** As the daemon does: accepts without reading, then does the handshake. */
async function handshakeOnAccepted(client: ConnectionOptions | undefined, deadlineMs: number) {
  const credentials = await load(hostA);
  const listener = createPlainServer({ pauseOnConnect: true });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  const target = {
    port: typeof address === "object" ? (address?.port ?? 0) : 0,
    host: "127.0.0.1",
  };
  const accepted = once(listener, "connection");
  const peer = client === undefined ? connectPlain(target) : connect({ ...client, ...target });
  peer.on("error", () => {});
  peer.write("hello");
  try {
    const [socket]: Socket[] = await accepted;
    assert.ok(socket !== undefined);
    const secure = await acceptTls(socket, credentials, systemClock, deadlineMs);
    const [bytes] = await once(secure, "data");
    secure.destroy();
    return `${secure.authorized} ${bytes}`;
  } finally {
    peer.destroy();
    listener.close();
  }
}

test("a socket that was accepted elsewhere gets the same checks", async () => {
  assert.equal(await handshakeOnAccepted(await clientOf(hostB, "localhost"), 2000), "true hello");
  const intruder = { ...(await clientOf(stranger, "localhost")), rejectUnauthorized: false };
  await assert.rejects(handshakeOnAccepted(intruder, 2000), { code: "TLS" });
  const anonymous = { rejectUnauthorized: false };
  await assert.rejects(handshakeOnAccepted(anonymous, 2000), { code: "TLS" });
  await assert.rejects(handshakeOnAccepted(undefined, 2000), { code: "TLS" });
});

test("TLS 1.2 is refused", async () => {
  const server = await serverOf(hostA);
  const client = await clientOf(hostB, "localhost");
  await assert.rejects(
    handshake(server, { ...client, minVersion: "TLSv1.2", maxVersion: "TLSv1.2" }),
    /protocol version/i,
  );
});

test("keys are for their owner only, and nothing else is left in the folder", async () => {
  const names = ["ca-cert.pem", "client-cert.pem", "client-key.pem"];
  assert.deepEqual((await readdir(hostA)).toSorted(), [
    ...names,
    "server-cert.pem",
    "server-key.pem",
  ]);
  for (const path of ["ca-key.pem", "host-a/server-key.pem", "host-a/client-key.pem"]) {
    assert.equal((await stat(join(root, "ca", path))).mode & 0o777, 0o600);
  }
});

test("nothing is overwritten", async () => {
  await assert.rejects(createPrivateCa(join(root, "ca")), { code: "CONFLICT" });
  await assert.rejects(issueHostCertificates(join(root, "ca"), "host-a"), { code: "CONFLICT" });
});

test("names that are not host names are refused", async () => {
  const ca = join(root, "ca");
  await assert.rejects(issueHostCertificates(ca, "../x"), { code: "CONFIG_INVALID" });
  const bad = { dnsNames: ["a,DNS:b"] };
  await assert.rejects(issueHostCertificates(ca, "c", bad), { code: "CONFIG_INVALID" });
  const worse = { ipAddresses: ["1.2.3"] };
  await assert.rejects(issueHostCertificates(ca, "c", worse), { code: "CONFIG_INVALID" });
});

async function damaged(change: (directory: string) => Promise<void>): Promise<string> {
  const directory = await mkdtemp(join(root, "damaged-"));
  for (const name of await readdir(hostA)) {
    await copyFile(join(hostA, name), join(directory, name));
  }
  await change(directory);
  return directory;
}

const swap = (from: string, to: string) => (directory: string) =>
  copyFile(from, join(directory, to));

test("each damage is reported with the file that has it", async () => {
  const cases: [(directory: string) => Promise<void>, RegExp][] = [
    [
      (directory) => rm(join(directory, "client-key.pem")),
      /client-key\.pem cannot be read: ENOENT/,
    ],
    [(directory) => writeFile(join(directory, "ca-cert.pem"), "x"), /ca-cert\.pem is not a PEM/],
    [(directory) => writeFile(join(directory, "server-key.pem"), "x"), /server-key\.pem is not a/],
    [swap(join(hostB, "server-key.pem"), "server-key.pem"), /is not the key of/],
    [swap(join(stranger, "client-cert.pem"), "client-cert.pem"), /was not signed by/],
    [swap(join(hostA, "server-cert.pem"), "ca-cert.pem"), /not the certificate of an authority/],
  ];
  for (const [change, message] of cases) {
    await assert.rejects(load(await damaged(change)), { code: "TLS", message });
  }
});

const at = (wallMs: number) => loadTlsCredentials(hostA, { ...systemClock, wallMs: () => wallMs });

test("expired and not yet valid certificates are refused (clock moved)", async () => {
  const year = 365 * 86_400_000;
  await assert.rejects(at(Date.now() + 3 * year), { code: "TLS", message: /server-cert.*expired/ });
  await assert.rejects(at(Date.now() + 11 * year), { code: "TLS", message: /ca-cert.*expired/ });
  await assert.rejects(at(Date.now() - year), { code: "TLS", message: /valid only from/ });
});
