/** What each round of a migration sent, by kind, as a table. Pure. */
import type { Report } from "../../api/index.ts";
import { table } from "./table.ts";
import { formatBytes, formatDuration } from "./units.ts";

type Round = NonNullable<Report["roundDetails"]>[number];

/** Of more, the first and the last are shown: those between differ little. */
const firstCount = 3;
const lastCount = 7;
const pageBytes = 4096;

/** Bytes of pages by kind, then what all that took on the link. */
const kinds: readonly (readonly [title: string, bytes: (round: Round) => number])[] = [
  ["SENT", (round) => round.pageCount * pageBytes],
  ["ZERO", (round) => round.zeroCount * pageBytes],
  ["YOUNG LEFT OUT", (round) => (round.droppedCount - round.droppedAreaCount) * pageBytes],
  ["AREAS LEFT OUT", (round) => round.droppedAreaCount * pageBytes],
  ["FETCHED", (round) => round.staleFetchedCount * pageBytes],
  ["COMPRESSED AWAY", (round) => Math.max(0, round.compressedAwayBytes)],
  ["ON THE WIRE", (round) => round.wireBytes],
];
/** Shown even when there was nothing of the kind. */
const always = new Set(["SENT", "ON THE WIRE"]);

/** Undefined without rounds. A kind of which there was nothing in any round has no column. */
export function roundsText(rounds: readonly Round[]): string | undefined {
  if (rounds.length === 0) return undefined;
  const shown = kinds.filter(
    ([title, bytes]) => always.has(title) || rounds.some((round) => bytes(round) > 0),
  );
  const row = (round: Round): string[] => [
    String(round.index),
    formatDuration(round.durationMs),
    formatBytes(round.dirtyBytes),
    ...shown.map(([, bytes]) => formatBytes(bytes(round))),
  ];
  const isLong = rounds.length > firstCount + lastCount + 1;
  const rows = isLong
    ? [...rounds.slice(0, firstCount).map(row), ["..."], ...rounds.slice(-lastCount).map(row)]
    : rounds.map(row);
  return table(["ROUND", "TIME", "DIRTY", ...shown.map(([title]) => title)], rows);
}
