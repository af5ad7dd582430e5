/**
 * Things outside this process that must not outlive it: namespaces, QEMUs, folders. `await using` ends them in the ordinary
 * course; what is left when the process ends in any other way (Ctrl-C, a bug) is ended here, synchronously.
 */

const steps = new Set<() => void>();

/** Runs `step` when the process ends, unless the returned function was called before. Last in, first out. */
export function atExit(step: () => void): () => void {
  if (steps.size === 0) install();
  steps.add(step);
  return () => void steps.delete(step);
}

let installed = false;

function install(): void {
  if (installed) return;
  installed = true;
  process.on("exit", () => {
    for (const step of [...steps].toReversed()) {
      try {
        step();
      } catch {
        // The others still have to run.
      }
    }
  });
  const numbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
  for (const [name, number] of Object.entries(numbers)) {
    process.on(name, () => process.exit(128 + number));
  }
}
