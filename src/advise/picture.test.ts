/** Pictures are well-formed XML, show every point inside the frame, and no label hides another. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type PicturePoint, picture } from "./picture.ts";

/** As long as the longest that there are. */
const names = Array.from({ length: 16 }, (_, i) => `${"similarity+zstd".slice(0, 3 + i)}-${i}`);

interface Element {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  text: string;
}

/** A tiny reader of what the pictures use of XML; throws at anything else. */
function parse(xml: string): Element[] {
  const elements: Element[] = [];
  const open: Element[] = [];
  const token = /<(\/?)([a-z]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>|([^<]+)/gy;
  let at = 0;
  for (let match = token.exec(xml); match !== null; match = token.exec(xml)) {
    at = token.lastIndex;
    const [, closes, name = "", list = "", alone, text] = match;
    if (text !== undefined) {
      assert.ok(!/&(?!(amp|lt|gt|quot);)/.test(text), `an entity in ${text}`);
      const inside = open.at(-1);
      if (inside === undefined) assert.equal(text.trim(), "");
      else inside.text += text;
    } else if (closes === "/") assert.equal(open.pop()?.name, name);
    else {
      const pairs = [...list.matchAll(/([\w:-]+)="([^"]*)"/g)].map(([, k, v]) => [k, v] as const);
      const element = { name, attributes: Object.fromEntries(pairs), text: "" };
      assert.equal(Object.keys(element.attributes).length, pairs.length, "no attribute twice");
      elements.push(element);
      if (alone !== "/") open.push(element);
    }
  }
  assert.equal(at, xml.length, `not XML: ${xml.slice(at, at + 60)}`);
  assert.deepEqual(open, []);
  return elements;
}

/** Of the labels of points, in the picture's units; a character takes at least 5.5 of them. */
function labelBoxes(elements: readonly Element[], labels: readonly string[]) {
  return elements
    .filter(({ name, text }) => name === "text" && labels.includes(text))
    .map(({ attributes, text }) => {
      const [x, y] = [Number(attributes["x"]), Number(attributes["y"])];
      return { left: x, right: x + text.length * 5.5, top: y - 10, bottom: y + 2 };
    });
}

const text = { title: "A & B <c>", subtitle: 'quoted "so"', recommended: undefined };
const point = fc.record({
  ratio: fc.double({ min: 0.5, max: 2000, noNaN: true }),
  encodeMsPerMb: fc.double({ min: 0, max: 60, noNaN: true }),
});

test("a picture is well-formed, its dots lie inside, its labels hide neither each other nor a dot", () => {
  fc.assert(
    fc.property(fc.array(point, { maxLength: names.length }), (values) => {
      const points = values.map((value, i) => ({ ...value, label: names[i] ?? "" }));
      const elements = parse(picture(points, { ...text, recommended: points[0]?.label }));
      const circles = elements.filter(({ name }) => name === "circle").slice(0, -3);
      const dots = circles.filter(({ attributes }) => attributes["class"] !== "ring");
      if (points.length > 0) assert.equal(dots.length, points.length);
      const places = dots.map(({ attributes }) => [
        Number(attributes["cx"]),
        Number(attributes["cy"]),
      ]);
      for (const [x = 0, y = 0] of places) {
        assert.ok(x >= 72 && x <= 776 && y >= 76 && y <= 436, `${x} ${y}`);
      }
      const boxes = labelBoxes(
        elements,
        points.map(({ label }) => label),
      );
      assert.equal(boxes.length, points.length);
      for (const [i, a] of boxes.entries()) {
        for (const b of boxes.slice(i + 1)) {
          const isApart =
            a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
          assert.ok(isApart, "two labels at one place");
        }
        for (const [x = 0, y = 0] of places) {
          assert.ok(x < a.left || x > a.right || y < a.top || y > a.bottom, "a label on a dot");
        }
      }
    }),
    { numRuns: 200 },
  );
});

test("a better ratio is higher, more CPU time further right; the front alone is filled", () => {
  const points: PicturePoint[] = [
    { label: "cheap", ratio: 2, encodeMsPerMb: 0.1 },
    { label: "good", ratio: 20, encodeMsPerMb: 1 },
    { label: "beaten", ratio: 10, encodeMsPerMb: 5 },
  ];
  const circles = parse(picture(points, text)).filter(({ name }) => name === "circle");
  const [cheap, good, beaten] = circles.map(({ attributes }) => attributes);
  assert.ok(Number(cheap?.["cx"]) < Number(good?.["cx"]));
  assert.ok(Number(good?.["cx"]) < Number(beaten?.["cx"]));
  assert.ok(Number(good?.["cy"]) < Number(beaten?.["cy"]));
  assert.ok(Number(beaten?.["cy"]) < Number(cheap?.["cy"]));
  assert.deepEqual(
    [cheap, good, beaten].map((attributes) => attributes?.["class"]),
    ["on", "on", "off"],
  );
});

test("equal distances are equal factors", () => {
  const points = [0.1, 1, 10].map((encodeMsPerMb, i) => ({
    label: `m${i}`,
    ratio: 10 ** i,
    encodeMsPerMb,
  }));
  const circles = parse(picture(points, text)).filter(({ name }) => name === "circle");
  const xs = circles.slice(0, 3).map(({ attributes }) => Number(attributes["cx"]));
  assert.ok(Math.abs((xs[1] ?? 0) - (xs[0] ?? 0) - ((xs[2] ?? 0) - (xs[1] ?? 0))) < 0.3);
});
