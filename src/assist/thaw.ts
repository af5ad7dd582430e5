/** The other end of a hold: lets applications go where the VM runs now. */
import type { Clock } from "../io/index.ts";
import { AgentClient } from "./agent/index.ts";

/**
 * Connects to the agent's port; to be called just before the VM starts, so that the agent does not take the port for closed.
 * The returned function resolves when everything was let go, and registered programs were told: to the agent a new host is the end
 * of all that the one before had asked for. Fails with AGENT_*; the agent then lets go by itself, at the latest when the time it
 * was given has passed.
 */
export function prepareThaw(
  path: string,
  { clock, timeoutMs }: { clock: Clock; timeoutMs: number },
): () => Promise<void> {
  const connecting = AgentClient.connect(path, { clock, timeoutMs });
  // Looked at once the VM runs.
  connecting.catch(() => {});
  return async () => {
    await using _ = await connecting;
  };
}
