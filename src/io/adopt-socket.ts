/**
 * Node lets a socket read straight into the owner's memory (`onread`), but only sockets that it opens itself; the option is
 * ignored for those that a server accepts. Here an accepted socket's handle is taken over by a new socket that has the
 * option. This is the one place that touches Node's internals (`_handle`, option `handle`); should they go away, the socket
 * is used as it is and chunks are copied: slower, still right. adopt-socket.test.ts tells when that happens.
 */
import { Socket } from "node:net";
import type { SlabReceiver } from "./slab-receiver.ts";

interface WithHandle {
  _handle: unknown;
}

/**
 * `accepted` must come from a server with `pauseOnConnect` and must not have been read. Answers the socket to use from now
 * on; it is reading into `receiver`.
 */
export function adoptSocket(accepted: Socket, receiver: SlabReceiver): Socket {
  const inner = accepted as unknown as WithHandle;
  const handle = inner._handle;
  if (handle === undefined || handle === null) {
    receiver.attachChunks(accepted);
    accepted.resume();
    return accepted;
  }
  inner._handle = null;
  accepted.removeAllListeners();
  const options = { handle, readable: true, writable: true, onread: receiver.onread() };
  const socket = new Socket(options as never);
  receiver.attach(socket);
  socket.resume();
  return socket;
}
