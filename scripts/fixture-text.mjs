// The text of fixtures/: little stories from a grammar, in which what is said of a person must be said again.

const PEOPLE = {
  Anna: "her",
  Clara: "her",
  Ellen: "her",
  Maria: "her",
  Boris: "his",
  David: "his",
  Peter: "his",
  Oscar: "his",
};
const THINGS = ["lantern", "letter", "kettle", "violin", "ladder", "basket", "mirror", "anchor", "candle", "map"];
const KINDS = ["old", "green", "small", "bright", "heavy", "broken", "silver", "wooden", "plain", "dusty"];
const PLACES = ["harbour", "garden", "tower", "market", "mill", "station", "cellar", "school", "forest", "castle"];

/** Mulberry32: 32-bit, seeded, good enough for fixtures. */
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What is first said of a person: name, thing, kind and place are free. */
const INTRODUCTIONS = [
  ({ name, whose, kind, thing, place }) => `${name} keeps ${whose} ${kind} ${thing} in the ${place}.`,
  ({ name, whose, kind, thing, place }) => `In the ${place} ${name} has ${whose} ${kind} ${thing}.`,
];

/** What follows: after the first name or thing, the rest is known to whoever remembers the introduction. */
const RECOLLECTIONS = [
  ({ name, kind, thing }) => `The ${thing} of ${name} is ${kind}.`,
  ({ name, whose, thing, place }) => `${name} looks for ${whose} ${thing} in the ${place}.`,
  ({ name, kind, thing, place }) => `Who has the ${kind} ${thing}? It is ${name} in the ${place}.`,
  ({ kind, thing, place }, other) => `${other.name} sees the ${thing} in the ${place}, and it is ${kind}.`,
  ({ name, kind, thing }, other) => `${other.name} asks ${name} for the ${kind} ${thing}.`,
];

/** `bytes` of text at least, the same for the same seed: one story a line. */
export function makeText(bytes, seed) {
  const next = random(seed);
  const pick = (list) => list[Math.floor(next() * list.length)];
  const some = (list, count) => {
    const rest = [...list];
    return Array.from({ length: count }, () => rest.splice(Math.floor(next() * rest.length), 1)[0]);
  };
  const story = () => {
    const [names, kinds, things, places] = [Object.keys(PEOPLE), KINDS, THINGS, PLACES].map((list) => some(list, 2));
    const cast = names.map((name, i) => ({
      name,
      whose: PEOPLE[name],
      kind: kinds[i],
      thing: things[i],
      place: places[i],
    }));
    const introductions = cast.map((person) => pick(INTRODUCTIONS)(person));
    const recollections = Array.from({ length: 3 }, () => {
      const who = Math.floor(next() * 2);
      return pick(RECOLLECTIONS)(cast[who], cast[1 - who]);
    });
    return `${[...introductions, ...recollections].join(" ")}\n`;
  };
  let text = "";
  while (text.length < bytes) text += story();
  return text;
}
