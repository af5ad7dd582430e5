/** Runs inside the destination's end of the link: opens a port there and gives it to the bench, as a daemon would own it. */
import { createServer } from "node:net";

const server = createServer();
server.listen(0, process.argv[2], () => {
  const address = server.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  process.send?.({ port }, server, {}, () => {
    // The bench has its own handle of the port by now; of two owners either would get the connections.
    server.close();
    process.disconnect();
  });
});
