/** Opens the connection between two godwits: TLS with certificates on both sides, or plain TCP where that is allowed. */
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { GodwitError } from "../base/index.ts";
import { acceptTls, adoptSocket, type Clock, loadTlsCredentials } from "../io/index.ts";
import type { FrameChannel } from "./channel.ts";
import type { TransportOptions } from "./job.ts";

const connectDeadlineMs = 15_000;

/** True for addresses that never leave this machine. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** Fails with INSECURE when guest memory would cross a network unencrypted without the user having said so. */
export function checkTransport(host: string, transport: TransportOptions): void {
  if (transport.tlsDirectory !== undefined || transport.insecure || isLoopback(host)) return;
  throw new GodwitError(
    "INSECURE",
    `guest memory would travel unencrypted to ${host}: give both daemons --tls DIRECTORY (godwit tls init makes one), ` +
      "or say --insecure",
  );
}

/** Connects `channel` to the other godwit. Fails with PEER_LOST, TLS, INSECURE or TIMEOUT. */
export async function connectChannel(
  clock: Clock,
  channel: FrameChannel,
  peer: { host: string; port: number },
  transport: TransportOptions,
): Promise<void> {
  checkTransport(peer.host, transport);
  const onread = channel.receiver.onread() as never;
  const where = `${peer.host}:${peer.port}`;
  let socket: Socket;
  let ready = "connect";
  if (transport.tlsDirectory === undefined) {
    socket = connect({ host: peer.host, port: peer.port, onread });
  } else {
    const credentials = await loadTlsCredentials(transport.tlsDirectory, clock);
    const options = { ...credentials.clientOptions(peer.host), port: peer.port, onread };
    socket = connectTls(options as never);
    ready = "secureConnect";
  }
  channel.receiver.attach(socket);
  await new Promise<void>((resolve, reject) => {
    const stop = clock.after(connectDeadlineMs, () => {
      socket.destroy();
      reject(
        new GodwitError("TIMEOUT", `${where} did not answer within ${connectDeadlineMs / 1000} s`),
      );
    });
    socket.once(ready, () => {
      stop();
      resolve();
    });
    socket.once("error", (error) => {
      stop();
      reject(cannotConnect(where, error));
    });
  });
  socket.removeAllListeners("error");
  channel.open(socket);
}

/** Only errors of the operating system name the call that failed: any other is OpenSSL's. */
function cannotConnect(where: string, error: Error): GodwitError {
  if ("syscall" in error) {
    const advice = "is its daemon running, and is the port right?";
    return new GodwitError("PEER_LOST", `cannot connect to ${where}: ${error.message}; ${advice}`);
  }
  const advice = "both hosts need certificates of one authority (godwit tls init)";
  return new GodwitError("TLS", `no trust in ${where}: ${error.message}; ${advice}`);
}

/** Serves `channel` on a connection that the daemon accepted (and did not read). */
export async function acceptChannel(
  clock: Clock,
  channel: FrameChannel,
  accepted: Socket,
  transport: TransportOptions,
): Promise<void> {
  if (transport.tlsDirectory === undefined) {
    channel.open(adoptSocket(accepted, channel.receiver));
    return;
  }
  const credentials = await loadTlsCredentials(transport.tlsDirectory, clock);
  const socket = await acceptTls(accepted, credentials, clock, connectDeadlineMs);
  channel.receiver.attachChunks(socket);
  channel.open(socket);
}
