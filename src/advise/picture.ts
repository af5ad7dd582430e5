/**
 * Ratio against CPU time as an SVG: one dot a method, both axes logarithmic, the Pareto front as a line. Pure.
 *
 * Colours are variables with values for light and for dark surroundings, so that the file can be shown as it is in documents
 * of either kind. Identity is never by colour alone: each dot has its name, dots of the front are filled.
 */
import { paretoFront } from "./pareto.ts";

export interface PicturePoint {
  readonly label: string;
  readonly ratio: number;
  readonly encodeMsPerMb: number;
}

export interface PictureText {
  readonly title: string;
  readonly subtitle: string;
  /** Label of the point that gets a ring. */
  readonly recommended?: string | undefined;
}

const width = 800;
const height = 516;
const plot = { left: 72, right: 776, top: 76, bottom: 436 } as const;
/** CPU times below this are drawn at it: handing pages on as they are takes next to none. */
const msMin = 0.01;
const fontPx = 12;
/** Of a character of a sans-serif font at `fontPx`, on the generous side. */
const characterPx = 6.9;
const dotPx = 5;
/** So far a label looks for a place clear of the front's line; then it may lie on that. */
const nearPx = 60;

interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

interface Dot {
  readonly point: PicturePoint;
  readonly x: number;
  readonly y: number;
  readonly onFront: boolean;
}

/** A logarithmic axis from `from` to `to`, which are ticks. */
interface Axis {
  readonly ticks: readonly number[];
  readonly place: (value: number) => number;
}

export function picture(points: readonly PicturePoint[], text: PictureText): string {
  const shown = points.map((point) => ({
    ...point,
    encodeMsPerMb: Math.max(point.encodeMsPerMb, msMin),
  }));
  const x = axis(
    shown.map(({ encodeMsPerMb }) => encodeMsPerMb),
    plot.left,
    plot.right,
  );
  const y = axis(
    shown.map(({ ratio }) => ratio),
    plot.bottom,
    plot.top,
  );
  const front = new Set(paretoFront(shown));
  const dots = shown.map((point) => ({
    point,
    x: x.place(point.encodeMsPerMb),
    y: y.place(point.ratio),
    onFront: front.has(point),
  }));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escape(`${text.title}. ${text.subtitle}`)}">`,
    styleSheet,
    `<rect class="surface" width="${width}" height="${height}"/>`,
    textAt(plot.left, 28, text.title, "title"),
    textAt(plot.left, 48, text.subtitle, "quiet"),
    ...grid(x, y),
    frontLine(dots),
    ...dots.flatMap((dot) => drawDot(dot, dot.point.label === text.recommended)),
    ...labels(dots),
    ...legend(text.recommended !== undefined),
    "</svg>",
    "",
  ].join("\n");
}

const styleSheet = `<style>
svg { --surface: #ffffff; --ink: #1d1d1b; --quiet: #5f5e5a; --line: #e3e2de; --front: #1f5fbf; --other: #8a8984; }
@media (prefers-color-scheme: dark) {
  svg { --surface: #191918; --ink: #f3f2ee; --quiet: #b4b2ab; --line: #373633; --front: #7db0ff; --other: #8f8e88; }
}
.surface { fill: var(--surface); }
text { font: ${fontPx}px system-ui, sans-serif; fill: var(--ink); paint-order: stroke; stroke: var(--surface); stroke-width: 3px; }
.title { font-size: 16px; font-weight: 600; }
.quiet { fill: var(--quiet); }
.grid { stroke: var(--line); stroke-width: 1; }
.front { stroke: var(--front); stroke-width: 2; fill: none; }
.on { fill: var(--front); stroke: var(--surface); stroke-width: 2; }
.off { fill: var(--surface); stroke: var(--other); stroke-width: 2; }
.ring { fill: none; stroke: var(--front); stroke-width: 2; }
.leader { stroke: var(--quiet); stroke-width: 1; }
</style>`;

/** Ticks at 1, 2 and 5 times powers of ten; at least two of them. */
function axis(values: readonly number[], from: number, to: number): Axis {
  const least = Math.min(...values, Number.MAX_VALUE);
  const most = Math.max(...values, 0);
  const [low, high] = most > 0 ? [least, most] : [1, 1];
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)); power++) {
    for (const step of [1, 2, 5]) ticks.push(Number(`${step}e${power}`));
  }
  const first = Math.max(
    0,
    ticks.findLastIndex((tick) => tick <= low * 0.9),
  );
  const last = ticks.findIndex((tick, i) => i > first && tick >= high * 1.1);
  const kept = ticks.slice(first, last < 0 ? ticks.length : last + 1);
  const [start, end] = [Math.log(kept[0] ?? 1), Math.log(kept.at(-1) ?? 10)];
  const place = (value: number) => from + ((Math.log(value) - start) / (end - start)) * (to - from);
  return { ticks: kept, place };
}

function grid(x: Axis, y: Axis): string[] {
  const columns = x.ticks.flatMap((tick) => [
    line(x.place(tick), plot.top, x.place(tick), plot.bottom, "grid"),
    textAt(x.place(tick), plot.bottom + 18, tickText(tick), "quiet", "middle"),
  ]);
  const rows = y.ticks.flatMap((tick) => [
    line(plot.left, y.place(tick), plot.right, y.place(tick), "grid"),
    textAt(plot.left - 8, y.place(tick) + 4, tickText(tick), "quiet", "end"),
  ]);
  const middle = (plot.left + plot.right) / 2;
  return [
    ...columns,
    ...rows,
    textAt(
      middle,
      plot.bottom + 40,
      `CPU time to encode, ms per MB (less is better; ${msMin} stands for less)`,
      "",
      "middle",
    ),
    `<g transform="rotate(-90 20 ${(plot.top + plot.bottom) / 2})">${textAt(20, (plot.top + plot.bottom) / 2, "ratio (more is better)", "", "middle")}</g>`,
  ];
}

function tickText(value: number): string {
  return value >= 1 ? String(Math.round(value)) : String(Number(value.toPrecision(1)));
}

/** In steps: with less CPU time than the next dot needs, one has the ratio of the dot before it. */
function frontLine(dots: readonly Dot[]): string {
  const front = dots.filter(({ onFront }) => onFront).toSorted((a, b) => a.x - b.x);
  const parts = front.map(({ x, y }, i) => (i === 0 ? `M${px(x)} ${px(y)}` : `H${px(x)}V${px(y)}`));
  return front.length < 2 ? "" : `<path class="front" d="${parts.join("")}"/>`;
}

function drawDot({ x, y, onFront, point }: Dot, isRecommended: boolean): string[] {
  const title = `${point.label}: ratio ${point.ratio.toPrecision(3)}, ${point.encodeMsPerMb.toPrecision(2)} ms/MB`;
  const circle = (radius: number, name: string, inner = "") =>
    `<circle class="${name}" cx="${px(x)}" cy="${px(y)}" r="${radius}">${inner}</circle>`;
  const dot = circle(dotPx, onFront ? "on" : "off", `<title>${escape(title)}</title>`);
  return isRecommended ? [circle(dotPx + 4, "ring"), dot] : [dot];
}

function legend(hasRing: boolean): string[] {
  const y = height - 10;
  return [
    `<circle class="on" cx="${plot.left + 6}" cy="${y - 4}" r="${dotPx}"/>`,
    textAt(plot.left + 18, y, "on the Pareto front", "quiet"),
    `<circle class="off" cx="${plot.left + 156}" cy="${y - 4}" r="${dotPx}"/>`,
    textAt(plot.left + 168, y, "another has a better ratio for less CPU time", "quiet"),
    ...(hasRing
      ? [
          `<circle class="ring" cx="${plot.left + 456}" cy="${y - 4}" r="${dotPx + 2}"/>`,
          textAt(plot.left + 470, y, "recommended", "quiet"),
        ]
      : []),
  ];
}

/** Each label where it hides neither a dot nor another label: beside its dot, or further off and joined to it by a line. */
function labels(dots: readonly Dot[]): string[] {
  const taken: Box[] = dots.map(({ x, y }) => boxAround(x, y, dotPx + 4));
  const lines = frontBoxes(dots);
  // Those that matter most get the best places.
  const sorted = dots.toSorted((a, b) => Number(b.onFront) - Number(a.onFront));
  return sorted.flatMap((dot) => {
    const box = freePlace(dot, [...taken, ...lines], nearPx) ?? freePlace(dot, taken, width);
    if (box === undefined) return [];
    taken.push(box);
    const label = textAt(box.left, box.bottom - 4, dot.point.label, dot.onFront ? "" : "quiet");
    const [toX, toY] = nearest(box, dot);
    const far = Math.hypot(toX - dot.x, toY - dot.y) > dotPx + 12;
    return far ? [line(dot.x, dot.y, toX, toY, "leader"), label] : [label];
  });
}

/** Where there is room within `awayMax` of the dot. */
function freePlace({ x, y, point }: Dot, taken: readonly Box[], awayMax: number): Box | undefined {
  const long = point.label.length * characterPx;
  const tall = fontPx + 4;
  for (let away = dotPx + 4; away < awayMax; away += 10) {
    for (const [dx, dy] of directions) {
      const left = x + dx * away + (dx > 0 ? 0 : dx < 0 ? -long : -long / 2);
      const top = y + dy * away + (dy > 0 ? 0 : dy < 0 ? -tall : -tall / 2);
      const box = { left, right: left + long, top, bottom: top + tall };
      if (isInside(box) && taken.every((other) => !overlap(box, other))) return box;
    }
  }
  return undefined;
}

/** The front's line, which labels keep clear of while there is room. */
function frontBoxes(dots: readonly Dot[]): Box[] {
  const front = dots.filter(({ onFront }) => onFront).toSorted((a, b) => a.x - b.x);
  return front.slice(1).flatMap(({ x, y }, i) => {
    const before = front[i] as Dot;
    return [
      { left: before.x, right: x, top: before.y - 2, bottom: before.y + 2 },
      { left: x - 2, right: x + 2, top: y, bottom: before.y },
    ];
  });
}

/** Right, left, above, below, then between them. */
const directions = [
  [1, 0],
  [-1, 0],
  [0, -1],
  [0, 1],
  [0.7, -0.7],
  [0.7, 0.7],
  [-0.7, -0.7],
  [-0.7, 0.7],
] as const;

function isInside({ left, right, top, bottom }: Box): boolean {
  return left >= plot.left && right <= width - 4 && top >= plot.top - 14 && bottom <= plot.bottom;
}

function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

function boxAround(x: number, y: number, by: number): Box {
  return { left: x - by, right: x + by, top: y - by, bottom: y + by };
}

/** The point of the box that is nearest to the dot. */
function nearest({ left, right, top, bottom }: Box, { x, y }: Dot): readonly [number, number] {
  return [Math.min(Math.max(x, left), right), Math.min(Math.max(y, top), bottom)];
}

function line(x1: number, y1: number, x2: number, y2: number, name: string): string {
  return `<line class="${name}" x1="${px(x1)}" y1="${px(y1)}" x2="${px(x2)}" y2="${px(y2)}"/>`;
}

function textAt(x: number, y: number, text: string, name: string, anchor = "start"): string {
  const style = name === "" ? "" : ` class="${name}"`;
  return `<text${style} x="${px(x)}" y="${px(y)}" text-anchor="${anchor}">${escape(text)}</text>`;
}

function px(value: number): string {
  return String(Number(value.toFixed(1)));
}

function escape(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replaceAll(/\p{Cc}/gu, "?").replaceAll(/[&<>"]/g, (c) => entities[c] ?? c);
}
