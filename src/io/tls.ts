/**
 * Mutual TLS between godwits, with QEMU's file names, so that one folder serves QEMU's own TLS as well:
 *
 *     ca-cert.pem                       whom to trust
 *     server-cert.pem, server-key.pem   shown to those who connect to us
 *     client-cert.pem, client-key.pem   shown to those we connect to
 *
 * TLS 1.3 only, and both sides always show a certificate of the same private authority. Whoever connects also checks the
 * name in the server's certificate.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import { type ConnectionOptions, createServer, type TLSSocket, type TlsOptions } from "node:tls";
import { GodwitError } from "../base/index.ts";
import { type Clock, systemClock } from "./clock.ts";
import { withDeadline } from "./deadline.ts";

export interface TlsCredentials {
  readonly directory: string;
  /** Milliseconds since 1970 at which the first of the certificates ends. */
  readonly validUntilWallMs: number;
  /**
   * For `tls.createServer`; for one socket that was accepted elsewhere use `acceptTls`. Not for a bare `new
   * TLSSocket(socket, { isServer: true })`: Node enforces `rejectUnauthorized` in `tls.Server` only, so that would let any
   * client in.
   */
  serverOptions(): TlsOptions;
  /**
   * For `tls.connect`. `serverName` is where to connect to, and must be in the server's certificate: a DNS name or an IP
   * address.
   */
  clientOptions(serverName: string): ConnectionOptions;
}

/**
 * Reads and checks the five files. Fails with TLS, naming the file: not readable, not PEM, key of another certificate, not
 * yet or no longer valid, not signed by ca-cert.pem.
 */
export async function loadTlsCredentials(
  directory: string,
  clock: Clock = systemClock,
): Promise<TlsCredentials> {
  const path = join(directory, "ca-cert.pem");
  const pem = await readPem(path);
  const certificate = parseCertificate(path, pem);
  checkValidity(path, certificate, clock);
  if (!certificate.ca) throw tlsError(path, "is not the certificate of an authority");
  const authority = { path, pem, certificate };
  const server = await loadPair(directory, "server", authority, clock);
  const client = await loadPair(directory, "client", authority, clock);
  const ends = [certificate, server.certificate, client.certificate].map(endOf);
  return {
    directory,
    validUntilWallMs: Math.min(...ends),
    serverOptions: () => ({ ...common(authority, server), requestCert: true }),
    clientOptions: (serverName) => ({
      ...common(authority, client),
      host: serverName,
      checkServerIdentity: (_host, shown) => checkName(serverName, shown.raw),
    }),
  };
}

interface Loaded {
  readonly path: string;
  readonly pem: Buffer;
  readonly certificate: X509Certificate;
}

interface Pair extends Loaded {
  readonly key: Buffer;
}

async function loadPair(
  directory: string,
  role: "server" | "client",
  authority: Loaded,
  clock: Clock,
): Promise<Pair> {
  const path = join(directory, `${role}-cert.pem`);
  const keyPath = join(directory, `${role}-key.pem`);
  const pem = await readPem(path);
  const key = await readPem(keyPath);
  const certificate = parseCertificate(path, pem);
  checkValidity(path, certificate, clock);
  const { certificate: issuer } = authority;
  if (!certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey)) {
    throw tlsError(path, `was not signed by ${authority.path}`);
  }
  if (!certificate.checkPrivateKey(parseKey(keyPath, key))) {
    throw tlsError(keyPath, `is not the key of ${path}`);
  }
  return { path, pem, certificate, key };
}

function common(authority: Loaded, pair: Pair) {
  return {
    ca: [authority.pem],
    cert: pair.pem,
    key: pair.key,
    rejectUnauthorized: true,
    minVersion: "TLSv1.3" as const,
  };
}

function endOf(certificate: X509Certificate): number {
  return certificate.validToDate.getTime();
}

/**
 * The server's side of the handshake on a socket that was accepted, and not read. Resolves once the client's certificate
 * was accepted; nothing was read then. Fails with TLS (why, in OpenSSL's words) or TIMEOUT; the socket is destroyed then.
 */
export async function acceptTls(
  accepted: Socket,
  credentials: TlsCredentials,
  clock: Clock,
  deadlineMs = 15_000,
): Promise<TLSSocket> {
  // A server that never listens: only there does Node refuse clients.
  const server = createServer(credentials.serverOptions());
  const handshake = new Promise<TLSSocket>((resolve, reject) => {
    server.once("secureConnection", resolve);
    server.once("tlsClientError", reject);
  });
  server.emit("connection", accepted);
  accepted.resume();
  try {
    return await withDeadline(clock, deadlineMs, "the peer's TLS handshake", handshake);
  } catch (cause) {
    accepted.destroy();
    if (cause instanceof GodwitError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GodwitError(
      "TLS",
      `the TLS handshake failed, or the client's certificate was refused: ${why}`,
      { cause },
    );
  }
}

/** Against the alternative names only, as browsers do; undefined when it matches. */
function checkName(name: string, raw: Buffer): Error | undefined {
  const certificate = new X509Certificate(raw);
  const match = /^[\d.]+$|:/.test(name)
    ? certificate.checkIP(name)
    : certificate.checkHost(name, { subject: "never" });
  if (match !== undefined) return undefined;
  const names = certificate.subjectAltName ?? "no names";
  return new GodwitError(
    "TLS",
    `the certificate of ${name} is for ${names}; issue one that contains this name, or connect by one of these`,
  );
}

async function readPem(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw tlsError(path, "cannot be read", cause);
  }
}

function parseCertificate(path: string, pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw tlsError(path, "is not a PEM certificate", cause);
  }
}

function parseKey(path: string, pem: Buffer) {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw tlsError(path, "is not a PEM private key without passphrase", cause);
  }
}

function checkValidity(path: string, certificate: X509Certificate, clock: Clock): void {
  const now = clock.wallMs();
  if (now > endOf(certificate)) {
    throw tlsError(path, `expired at ${certificate.validTo}; issue a new one`);
  }
  if (now < certificate.validFromDate.getTime()) {
    throw tlsError(
      path,
      `is valid only from ${certificate.validFrom}; is this host's clock right?`,
    );
  }
}

function tlsError(path: string, what: string, cause?: unknown): GodwitError {
  const because = cause instanceof Error ? `: ${cause.message}` : "";
  return new GodwitError("TLS", `${path} ${what}${because}`, { cause, details: { path } });
}
