// Elements, and how numbers and names are written. All text is text: nothing here takes HTML.

export const byID = (id: string) => document.getElementById(id)!;

type Child = Node | string | number | null | undefined | false;

// h makes an element.
export function h<K extends keyof HTMLElementTagNameMap>(
	tag: K,
	attributes: Record<string, string> = {},
	...children: Child[]
): HTMLElementTagNameMap[K] {
	return fill(document.createElement(tag), attributes, children);
}

// s makes an element of SVG.
export function s<K extends keyof SVGElementTagNameMap>(
	tag: K,
	attributes: Record<string, string | number> = {},
	...children: Child[]
): SVGElementTagNameMap[K] {
	return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill<E extends Element>(e: E, attributes: Record<string, string | number>, children: Child[]): E {
	for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, String(value));
	e.append(...children.filter((c) => c !== null && c !== undefined && c !== false).map((c) => (typeof c === "number" ? String(c) : c)));
	return e;
}

// setText writes only what has changed, so that a reader of the screen is not disturbed.
export function setText(e: Element, text: string) {
	if (e.textContent !== text) e.textContent = text;
}

// printable shows what cannot be seen, such as characters that turn the direction of writing. It is set
// apart, so that it cannot disorder what stands beside it.
export function named(name: string): HTMLElement {
	return h("bdi", {}, printable(name));
}

export function printable(name: string): string {
	return name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u${c.codePointAt(0)!.toString(16).padStart(4, "0")}`);
}

export const count = (n: number) => n.toLocaleString("en-US");

// rate writes what happened in a second.
export function rate(n: number, seconds: number): string {
	const r = seconds > 0 ? n / seconds : 0;
	if (r === 0) return "0/s";
	if (r < 0.1) return "<0.1/s";
	return `${r < 10 ? r.toFixed(1) : count(Math.round(r))}/s`;
}

// span writes a duration with one decimal, as many as a bucket is good for.
export function span(ns: number | null): string {
	if (ns === null) return "-";
	if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} µs`;
	if (ns < 1e9) return `${(ns / 1e6).toFixed(1)} ms`;
	if (ns < 600e9) return `${(ns / 1e9).toFixed(1)} s`;
	if (ns < 7200e9) return `${Math.floor(ns / 60e9)} min`;
	if (ns < 172800e9) return `${Math.floor(ns / 3600e9)} h`;
	return `${Math.floor(ns / 86400e9)} d`;
}

// clock is the time of day here.
const format = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const clock = (time: string) => format.format(new Date(time));

// A cell of a table: text, or an element.
export type Cell = string | Node;

// table makes a table. A column whose title begins with ">" has numbers.
export function table(caption: string, titles: string[], rows: Cell[][]): HTMLElement {
	const right = titles.map((t) => t.startsWith(">"));
	const cls = (i: number): Record<string, string> => (right[i] ? { class: "number" } : {});
	const head = titles.map((t, i) => h("th", { scope: "col", ...cls(i) }, t.replace(/^>/, "")));
	const body = rows.map((cells) =>
		h("tr", {}, ...cells.map((c, i) => (i === 0 ? h("th", { scope: "row" }, c) : h("td", cls(i), c)))),
	);
	// Where it is too wide it scrolls, also with the keyboard.
	return h(
		"div",
		{ class: "scrolls", tabindex: "0", role: "group", "aria-label": caption },
		h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...body)),
	);
}

// bar shows a share of 1 beside the number that says it.
export function bar(share: number, kind = ""): HTMLElement {
	const inner = h("span");
	inner.style.width = `${Math.min(Math.max(share, 0), 1) * 100}%`;
	return h("span", { class: `bar ${kind}`, "aria-hidden": "true" }, inner);
}
