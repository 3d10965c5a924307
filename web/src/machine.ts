// The state machine, as figure 5 of RFC 9293 draws it: eleven states, CLOSED twice.

import { byID, count, rate, s, setText, span } from "./dom";
import { edgeKey, type Moment } from "./store";

// A Pick is the state or the edge that the rest of the page is about.
export type Pick = { state: string } | { from: string; to: string } | null;

export const pickKey = (p: Pick) => (p === null ? "" : "state" in p ? p.state : edgeKey(p.from, p.to));

// Column and row of each box. "CLOSED again" is CLOSED.
const places: Record<string, [column: number, row: number]> = {
	CLOSED: [1, 0],
	LISTEN: [1, 1],
	SYN_RECV: [0, 2],
	SYN_SENT: [2, 2],
	ESTABLISHED: [1, 3],
	FIN_WAIT_1: [0, 4],
	CLOSE_WAIT: [2, 4],
	FIN_WAIT_2: [0, 5],
	CLOSING: [1, 5],
	LAST_ACK: [2, 5],
	TIME_WAIT: [1, 6],
	"CLOSED again": [2, 6],
};

// Edges of the figure: from a side of a box, and where on it, to a side of another. The last number is
// where on the way the rate stands. FIN_WAIT_1 → TIME_WAIT is that of note 2.
const edges: [from: string, side: string, to: string, side: string, label?: number][] = [
	["CLOSED", "b.3", "LISTEN", "t.3"],
	["LISTEN", "t.7", "CLOSED", "b.7"],
	["CLOSED", "r.4", "SYN_SENT", "t.65", 0.6],
	["SYN_SENT", "t.25", "CLOSED", "r.8", 0.45],
	["LISTEN", "l.4", "SYN_RECV", "t.65", 0.6],
	["SYN_RECV", "t.25", "LISTEN", "l.1", 0.5],
	["LISTEN", "r.6", "SYN_SENT", "l.15"],
	["SYN_SENT", "l.5", "SYN_RECV", "r.5"],
	["SYN_SENT", "l.85", "ESTABLISHED", "t.75", 0.6],
	["SYN_RECV", "r.85", "ESTABLISHED", "t.25", 0.6],
	["SYN_RECV", "b.3", "FIN_WAIT_1", "t.3"],
	["ESTABLISHED", "b.25", "FIN_WAIT_1", "r.25", 0.55],
	["ESTABLISHED", "b.75", "CLOSE_WAIT", "l.25", 0.55],
	["FIN_WAIT_1", "b.3", "FIN_WAIT_2", "t.3"],
	["FIN_WAIT_1", "r.55", "CLOSING", "t.5", 0.55],
	["FIN_WAIT_1", "r.85", "TIME_WAIT", "l.25", 0.5],
	["CLOSING", "b.5", "TIME_WAIT", "t.5"],
	["FIN_WAIT_2", "b.3", "TIME_WAIT", "l.7", 0.6],
	["CLOSE_WAIT", "b.5", "LAST_ACK", "t.5"],
	["LAST_ACK", "b.5", "CLOSED again", "t.5"],
	["TIME_WAIT", "r.5", "CLOSED again", "l.5"],
];

// From these a socket goes to CLOSED on no way of the figure; and where on the lower side that stands.
const exits: Record<string, number> = { SYN_RECV: 0.78, ESTABLISHED: 0.5, FIN_WAIT_1: 0.78, FIN_WAIT_2: 0.78, CLOSING: 0.78, CLOSE_WAIT: 0.78 };

interface Layout {
	width: number;
	height: number;
	columns: number[];
	rows: number[];
	box: [width: number, height: number];
}

const wide: Layout = { width: 860, height: 712, columns: [110, 430, 750], rows: [36, 138, 236, 338, 446, 556, 670], box: [204, 66] };
const narrow: Layout = { width: 360, height: 716, columns: [52, 180, 308], rows: [36, 140, 238, 340, 448, 558, 672], box: [98, 66] };

interface Box {
	group: SVGGElement;
	rect: SVGRectElement;
	count: SVGTextElement;
	age: SVGTextElement;
	gauge: SVGRectElement;
}
interface Way {
	group: SVGGElement;
	label: SVGTextElement;
	from: string;
	to: string;
	exit: boolean;
}

export class Machine {
	private boxes = new Map<string, Box>();
	private ways: Way[] = [];
	private items: SVGGElement[] = [];
	private layout = wide;
	private small = matchMedia("(max-width: 720px)");
	private choose: (p: Pick) => void;
	private drawn: { moment: Moment; pick: Pick } | null = null;

	constructor(choose: (p: Pick) => void) {
		this.choose = choose;
		this.small.addEventListener("change", () => this.draw());
		this.draw();
	}

	private draw() {
		this.layout = this.small.matches ? narrow : wide;
		const { width, height, box } = this.layout;
		this.boxes.clear();
		this.ways = [];
		this.items = [];
		const arrow = s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" });
		arrow.append(s("path", { d: "M0 0L8 4L0 8z" }));
		const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "TCP state machine, with the number of sockets in each state. The arrow keys move, Enter chooses." }, s("defs", {}, arrow));
		if (this.small.matches) svg.classList.add("narrow");
		for (const [from, a, to, b, at] of edges) svg.append(this.way(from, a, to, b, at ?? 0.5));
		for (const [name, [column, row]] of Object.entries(places)) {
			svg.append(this.state(name, this.layout.columns[column]! - box[0] / 2, this.layout.rows[row]! - box[1] / 2));
		}
		for (const [from, at] of Object.entries(exits)) svg.append(this.exit(from, at));
		// One stop for the tab key; the arrow keys move within.
		this.items.forEach((g, i) => g.setAttribute("tabindex", i === 0 ? "0" : "-1"));
		svg.addEventListener("keydown", (e) => this.key(e));
		byID("figure").replaceChildren(svg);
		if (this.drawn) this.show(this.drawn.moment, this.drawn.pick);
	}

	private button(cls: string, pick: Pick): SVGGElement {
		const g = s("g", { class: cls, role: "button", "aria-pressed": "false", "aria-label": pickKey(pick) });
		g.addEventListener("click", () => {
			this.focus(g);
			this.choose(pick);
		});
		this.items.push(g);
		return g;
	}

	private key(e: KeyboardEvent) {
		const now = this.items.indexOf(document.activeElement as SVGGElement);
		if (now < 0) return;
		const last = this.items.length - 1;
		const to: Record<string, number> = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: last };
		if (e.key in to) {
			for (let i = Math.min(Math.max(to[e.key]!, 0), last); this.items[i]; i += to[e.key]! < now ? -1 : 1) {
				if (!this.items[i]!.classList.contains("none")) {
					this.focus(this.items[i]!);
					break;
				}
			}
		} else if (e.key === "Enter" || e.key === " ") {
			this.items[now]!.dispatchEvent(new MouseEvent("click"));
		} else return;
		e.preventDefault();
	}

	private focus(g: SVGGElement) {
		for (const other of this.items) other.setAttribute("tabindex", other === g ? "0" : "-1");
		g.focus();
	}

	private point(name: string, side: string): [x: number, y: number, nx: number, ny: number] {
		const [column, row] = places[name]!;
		const [x, y] = [this.layout.columns[column]!, this.layout.rows[row]!];
		const [w, h] = this.layout.box;
		const part = Number(`0${side.slice(1)}`) - 0.5;
		switch (side[0]) {
			case "t":
				return [x + part * w, y - h / 2, 0, -1];
			case "b":
				return [x + part * w, y + h / 2, 0, 1];
			case "l":
				return [x - w / 2, y + part * h, -1, 0];
			default:
				return [x + w / 2, y + part * h, 1, 0];
		}
	}

	private way(from: string, a: string, to: string, b: string, at: number): SVGGElement {
		const [x0, y0, nx0, ny0] = this.point(from, a);
		const [x1, y1, nx1, ny1] = this.point(to, b);
		const bend = 0.45 * Math.hypot(x1 - x0, y1 - y0);
		const [ax, ay, bx, by] = [x0 + nx0 * bend, y0 + ny0 * bend, x1 + nx1 * bend, y1 + ny1 * bend];
		const d = `M${x0} ${y0}C${ax} ${ay} ${bx} ${by} ${x1} ${y1}`;
		const u = 1 - at;
		const mid = (p0: number, p1: number, p2: number, p3: number) => u ** 3 * p0 + 3 * u * u * at * p1 + 3 * u * at * at * p2 + at ** 3 * p3;
		const end = to.replace(" again", "");
		const g = this.button("edge", { from, to: end });
		const label = s("text", { x: mid(x0, ax, bx, x1), y: mid(y0, ay, by, y1) + 4, "text-anchor": "middle" });
		g.append(s("path", { class: "hit", d }), s("path", { class: "line", d, "marker-end": "url(#arrow)" }), label);
		this.ways.push({ group: g, label, from, to: end, exit: false });
		return g;
	}

	private exit(from: string, at: number): SVGGElement {
		const [x, y] = this.point(from, `b${String(at).slice(1)}`);
		const w = this.small.matches ? 44 : 62;
		const g = this.button("edge exit", { from, to: "CLOSED" });
		const label = s("text", { x, y: y + 4, "text-anchor": "middle" });
		g.append(s("rect", { x: x - w / 2, y: y - 9, width: w, height: 18, rx: 9 }), label);
		this.ways.push({ group: g, label, from, to: "CLOSED", exit: true });
		return g;
	}

	private state(place: string, x: number, y: number): SVGGElement {
		const name = place.replace(" again", "");
		const [w, h] = this.layout.box;
		const slim = this.small.matches;
		const closed = name === "CLOSED";
		const g = this.button("state", { state: name });
		const pad = slim ? 6 : 10;
		const rect = s("rect", { class: "box", x, y, width: w, height: h, rx: 8 });
		const title = s("text", { class: "name", x: x + pad, y: y + (slim ? 16 : 21) }, name);
		const n = s("text", { class: "count", x: slim ? x + pad : x + w - pad, y: y + (slim ? 34 : 25), "text-anchor": slim ? "start" : "end" });
		const age = s("text", { class: "age", x: x + pad, y: y + (slim ? 49 : 44) });
		const gauge = s("rect", { class: "gauge", x: x + pad, y: y + h - 13, width: 0, height: 5, rx: 2.5 });
		g.append(rect, title, " ", n, " ", age, s("rect", { class: "track", x: x + pad, y: y + h - 13, width: w - 2 * pad, height: 5, rx: 2.5 }), gauge);
		if (closed) g.classList.add("closed");
		this.boxes.set(place, { group: g, rect, count: n, age, gauge });
		return g;
	}

	show(m: Moment, pick: Pick) {
		this.drawn = { moment: m, pick };
		const picked = pickKey(pick);
		const slim = this.small.matches;
		for (const [place, b] of this.boxes) {
			const name = place.replace(" again", "");
			const live = m.frame.live[name] ?? 0;
			const age = ageOf(m, name);
			const closed = name === "CLOSED";
			const ended = [...m.recent.edges].reduce((n, [key, c]) => (key.endsWith("→ CLOSED") ? n + c : n), 0);
			setText(b.count, closed ? (place === "CLOSED" ? "" : rate(ended, m.recent.seconds)) : count(live));
			b.count.classList.toggle("long", (b.count.textContent ?? "").length > 7);
			setText(b.age, closed ? (place === "CLOSED" ? "no socket is counted" : slim ? "all ends" : "ends of all states") : live > 0 ? (slim ? age.short : age.text) : "");
			if (closed && place === "CLOSED" && slim) setText(b.age, "not counted");
			b.group.classList.toggle("busy", live > 0);
			for (const step of ["young", "middle", "near", "over", "unbound"]) b.group.classList.toggle(step, live > 0 && age.step === step);
			const full = this.layout.box[0] - 2 * (slim ? 6 : 10);
			b.gauge.setAttribute("width", String(live > 0 && age.share !== null ? Math.max(3, Math.min(age.share, 1) * full) : 0));
			b.group.classList.toggle("bounded", live > 0 && age.share !== null);
			press(b.group, picked === name);
			label(b.group, [name, b.count.textContent, b.age.textContent].filter((word) => word).join(" "));
		}
		for (const w of this.ways) {
			const key = edgeKey(w.from, w.to);
			const now = m.recent.edges.get(key) ?? 0;
			const all = m.sums.edges.get(key) ?? 0;
			const r = now / (m.recent.seconds || 1);
			setText(w.label, w.exit ? `✕ ${rate(now, m.recent.seconds)}` : now > 0 ? rate(now, m.recent.seconds) : "");
			w.group.classList.toggle("none", w.exit && all === 0);
			for (const step of [1, 2, 3, 4]) w.group.classList.toggle(`flow${step}`, now > 0 && step === Math.min(4, 1 + Math.max(0, Math.floor(Math.log10(Math.max(r, 1))))));
			press(w.group, picked === key);
			label(w.group, `${w.from} to ${w.to}: ${w.label.textContent || "0/s"}, ${count(all)} in all`);
		}
		const seen = new Set(this.ways.map((w) => edgeKey(w.from, w.to)));
		const beside = [...m.sums.edges].filter(([key]) => !seen.has(key)).sort((a, b) => b[1] - a[1]);
		setText(byID("beside"), beside.length > 0 ? `Not in the figure: ${beside.map(([key, n]) => `${key} ${count(n)}`).join(", ")}.` : "");
	}
}

function press(g: SVGGElement, is: boolean) {
	g.setAttribute("aria-pressed", String(is));
}

function label(g: SVGGElement, text: string) {
	if (g.getAttribute("aria-label") !== text) g.setAttribute("aria-label", text);
}

interface Age {
	text: string;
	short: string;
	share: number | null; // of the bound; null: there is none, or no age is known
	step: string;
}

// ageOf says how old the oldest socket of a state is, against what the kernel lets it be.
function ageOf(m: Moment, state: string): Age {
	const of = m.lists?.lists["state"]?.find((g) => g.event === "ls_group" && g.name === state);
	if (!of || of.oldest_ns === null) return { text: state === "LISTEN" ? "" : "age not known", short: state === "LISTEN" ? "" : "age: -", share: null, step: "" };
	const sign = of.precision === "at_least" ? "> " : "";
	const old = sign + span(of.oldest_ns);
	let bound: number | null = null;
	if (state === "TIME_WAIT") bound = m.hello.time_wait?.undisturbed_to_ns ?? null;
	if (state === "FIN_WAIT_2") bound = m.findings?.fin_timeout_ns?.[1] ?? null;
	if (bound === null) return { text: `oldest ${old}${state === "CLOSE_WAIT" ? ", no bound" : ""}`, short: old, share: null, step: state === "CLOSE_WAIT" ? "unbound" : "" };
	const share = of.oldest_ns / bound;
	if (state === "FIN_WAIT_2" && share > 1) return { text: `oldest ${old}, past ${span(bound)}`, short: old, share: null, step: "unbound" };
	const step = share > 1 ? "over" : share > 0.9 ? "near" : share > 0.5 ? "middle" : "young";
	return { text: `oldest ${old} of ${span(bound)}${share > 1 ? " !" : ""}`, short: `${old}${share > 1 ? " !" : ""}`, share, step };
}
