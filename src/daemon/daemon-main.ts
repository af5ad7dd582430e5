/** The daemon's process: `node src/daemon/daemon-main.ts CONFIG`, with the configuration as JSON. */
import { toErrorRecord } from "../base/index.ts";
import { systemClock } from "../io/index.ts";
import { resolveConfig } from "./config.ts";
import { Daemon } from "./daemon.ts";
import { createLog } from "./log.ts";

// Everything that is created here is for this user alone.
process.umask(0o077);

try {
  const config = resolveConfig(JSON.parse(process.argv[2] ?? "{}"));
  const log = createLog(config.logLevel);
  const daemon = await Daemon.start({ config, clock: systemClock, log });
  const stop = (signal: string): void => {
    log.info(`${signal}: ending`);
    void daemon.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log.fatal({ err: error }, "could not end in order");
        process.exit(1);
      },
    );
  };
  // A second one, or a hang, ends us at once.
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
} catch (error) {
  const { code, message } = toErrorRecord(error);
  process.stderr.write(`godwit: the daemon did not start: ${message}\n`);
  if (process.env["GODWIT_DEBUG"]) console.error(error);
  process.exit(code === "CONFIG_INVALID" || code === "INSECURE" ? 2 : 1);
}
