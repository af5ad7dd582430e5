/** `godwit tls`: makes credentials, without a daemon. */
import { isIP } from "node:net";
import { parseArgs } from "node:util";
import { GodwitError, toErrorRecord } from "../base/index.ts";
import { createPrivateCa, issueHostCertificates } from "../io/index.ts";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    dns: { type: "string", multiple: true },
    ip: { type: "string", multiple: true },
  },
});
const [what, directory = "", host = ""] = positionals;

try {
  if (what === "init") {
    await createPrivateCa(directory);
    tell({ directory }, `authority made in ${directory}; next: godwit tls issue ${directory} HOST`);
  } else {
    const [ownDns, ownIp] = isIP(host) === 0 ? [[host], []] : [[], [host]];
    const names = {
      dnsNames: [...ownDns, ...(values.dns ?? [])],
      ipAddresses: [...ownIp, ...(values.ip ?? [])],
    };
    const folder = await issueHostCertificates(directory, host, names);
    tell(
      { directory: folder },
      `credentials of ${host} made in ${folder}; copy it there, for --tls`,
    );
  }
} catch (error) {
  const record = toErrorRecord(error);
  if (values.json) process.stdout.write(`${JSON.stringify({ error: record })}\n`);
  else process.stderr.write(`godwit: ${record.message}\n`);
  if (process.env["GODWIT_DEBUG"] && !(error instanceof GodwitError)) console.error(error);
  process.exitCode = 1;
}

function tell(value: object, text: string): void {
  process.stdout.write(`${values.json ? JSON.stringify(value) : text}\n`);
}
