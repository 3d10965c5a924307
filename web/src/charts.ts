// Sockets and rates over time, drawn by uPlot, and the distribution of how long a state lasted.

import uPlot from "uplot";
import { count, h, s, span, table } from "./dom";
import { type Pick } from "./machine";
import { durations, edgeKey, quantile, type Moment } from "./store";
import type { Frame } from "./types";

const dashes = [[], [8, 4], [2, 3], [10, 3, 2, 3], [4, 4]];
const tracked = ["ESTABLISHED", "TIME_WAIT", "CLOSE_WAIT", "FIN_WAIT_2", "FIN_WAIT_1", "SYN_SENT", "SYN_RECV", "LAST_ACK", "CLOSING", "LISTEN"];

interface Line {
	name: string;
	of: (f: Frame) => number;
}

const made = (f: Frame, is: (from: string, to: string) => boolean) =>
	f.edges.reduce((n, [from, to, c]) => (is(from, to) ? n + c : n), 0) / (f.span_ns / 1e9);
const failed = (f: Frame) => f.ends.reduce((n, [state, , , c]) => (state === "SYN_SENT" ? n + c : n), 0) / (f.span_ns / 1e9);

const rates: Line[] = [
	{ name: "connects begun", of: (f) => made(f, (_, to) => to === "SYN_SENT") },
	{ name: "connects failed", of: failed },
	{ name: "accepted", of: (f) => made(f, (_, to) => to === "SYN_RECV") },
	{ name: "ended", of: (f) => made(f, (_, to) => to === "CLOSED") },
];

// A Chart is one plot. It is made anew only if its lines or the colours change.
class Chart {
	private plot: uPlot | null = null;
	private key = "";
	private box = h("div", { class: "plot" });
	private title = h("h3");

	constructor(into: HTMLElement) {
		into.append(h("figure", {}, this.title, this.box));
		new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.box);
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (this.key = ""));
	}

	private size() {
		return { width: Math.max(200, this.box.clientWidth), height: 200 };
	}

	show(title: string, frames: Frame[], lines: Line[], whole: boolean) {
		const data = [frames.map((f) => Date.parse(f.time) / 1000), ...lines.map((l) => frames.map(l.of))] as uPlot.AlignedData;
		const key = JSON.stringify([title, lines.map((l) => l.name)]);
		if (key !== this.key) {
			this.key = key;
			this.title.textContent = title;
			this.plot?.destroy();
			this.plot = new uPlot(this.options(lines, whole), data, this.box);
			this.plot.root.querySelector("canvas")?.setAttribute("aria-hidden", "true");
		} else this.plot?.setData(data);
		// The legend has the values under the pointer, or else the newest.
		if (this.plot && (this.plot.cursor.left ?? -1) < 0) this.plot.setLegend({ idx: frames.length - 1 });
		const last = frames.at(-1);
		this.box.setAttribute("role", "group");
		this.box.setAttribute("aria-label", `${title}. ${lines.map((l) => `${l.name}: ${last ? number(l.of(last)) : "-"}`).join(", ")}`);
	}

	private options(lines: Line[], whole: boolean): uPlot.Options {
		const css = getComputedStyle(document.documentElement);
		const colour = (name: string) => css.getPropertyValue(name).trim();
		const axis = { stroke: colour("--dim"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid"), width: 1 }, font: "12px system-ui" };
		return {
			...this.size(),
			cursor: { y: false },
			legend: { live: true },
			scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] } },
			axes: [
				{ ...axis, values: (_, at) => at.map((t) => clockOf(t)), space: 70 },
				{ ...axis, size: 56, values: (_, at) => at.map((v) => (whole && v % 1 !== 0 ? "" : number(v))) },
			],
			series: [
				{ label: "time", value: (_, t) => (t === null ? "" : clockOf(t)) },
				...lines.map((l, i) => ({
					label: l.name,
					stroke: colour(`--line${(i % 6) + 1}`),
					width: 2,
					dash: dashes[i % dashes.length]!,
					points: { show: false },
					value: (_: uPlot, v: number | null) => (v === null ? "-" : number(v)),
				})),
			],
		};
	}
}

const clockOf = (t: number) => new Date(t * 1000).toLocaleTimeString("en-GB");
const number = (v: number) => (Number.isInteger(v) || v >= 100 ? count(Math.round(v)) : v.toFixed(1));

export class Charts {
	private sockets: Chart;
	private rates: Chart;

	constructor(into: HTMLElement) {
		this.sockets = new Chart(into);
		this.rates = new Chart(into);
	}

	show(m: Moment, pick: Pick) {
		let states = tracked.filter((name) => name !== "LISTEN" && m.frames.some((f) => f.live[name]));
		let lines = rates;
		let title = "Per second";
		if (pick && "state" in pick) {
			const { state } = pick;
			if (state !== "CLOSED") states = [state];
			lines = [
				{ name: `entered ${state}`, of: (f) => made(f, (_, to) => to === state) },
				{ name: `left ${state}`, of: (f) => made(f, (from, to) => from === state && (state !== "LISTEN" || to === "CLOSED")) },
			];
			if (state === "CLOSED") lines = [rates[3]!];
		} else if (pick) {
			const key = edgeKey(pick.from, pick.to);
			lines = [{ name: key, of: (f) => made(f, (from, to) => edgeKey(from, to) === key) }];
			states = tracked.filter((name) => name === pick.from || name === pick.to);
		}
		if (states.length === 0) states = ["ESTABLISHED"];
		this.sockets.show("Sockets in each state", m.frames, states.map((name) => ({ name, of: (f) => f.live[name] ?? 0 })), true);
		this.rates.show(title, m.frames, lines, false);
	}
}

// lengths draws how long the sockets stayed in a state that left it within the window: a bar for each
// bucket. For TIME_WAIT it marks what is undisturbed.
export function lengths(m: Moment, state: string): HTMLElement[] {
	const d = durations(m.sums.frames, state);
	if (d.count === 0) {
		return [h("p", { class: "empty" }, `No socket whose start in ${state} was seen has left it in this time.`)];
	}
	const { bounds_ns: bounds, time_wait: band } = m.hello;
	const marked = state === "TIME_WAIT" && band !== null;
	let [low, high] = [d.buckets[0]![0], d.buckets.at(-1)![0] + 1];
	// place is where a duration is on the axis, in buckets.
	const place = (ns: number) => {
		const next = bounds.findIndex((b) => b > ns);
		const i = next < 0 ? bounds.length - 1 : next - 1;
		return i + (bounds[i + 1] ? (ns - bounds[i]!) / (bounds[i + 1]! - bounds[i]!) : 0);
	};
	if (marked) {
		low = Math.min(low, Math.floor(place(band.undisturbed_from_ns)) - 2);
		high = Math.max(high, Math.ceil(place(band.undisturbed_to_ns)) + 2);
	}
	if (high - low < 16) [low, high] = [Math.max(0, low - Math.ceil((16 - high + low) / 2)), high + Math.ceil((16 - high + low) / 2)];
	const [width, height, left, bottom] = [640, 210, 8, 28];
	const x = (at: number) => left + ((at - low) / (high - low)) * (width - 2 * left);
	const most = Math.max(...d.buckets.map(([, n]) => n));
	const top = 22;
	const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: "lengths", role: "img", "aria-label": `How long ${count(d.count)} sockets stayed in ${state}; the table below has the numbers` });
	if (marked) {
		const [from, to] = [x(place(band.undisturbed_from_ns)), x(place(band.undisturbed_to_ns))];
		svg.append(s("rect", { class: "band", x: from, y: top - 6, width: to - from, height: height - bottom - top + 6 }));
		const beyond = from > width / 2;
		svg.append(s("text", { x: beyond ? Math.min(to, width - left) : Math.max(from, left), y: 11, "text-anchor": beyond ? "end" : "start" }, `undisturbed: ${span(band.undisturbed_from_ns)} to ${span(band.undisturbed_to_ns)}`));
	}
	for (const [bucket, n] of d.buckets) {
		const tall = Math.max(2, (n / most) * (height - bottom - top));
		svg.append(s("rect", { class: "column", x: x(bucket) + 0.5, y: height - bottom - tall, width: Math.max(1.5, x(bucket + 1) - x(bucket) - 1), height: tall }, s("title", {}, `${between(bounds, bucket)}: ${count(n)}`)));
	}
	svg.append(s("path", { class: "axis", d: `M${left} ${height - bottom}H${width - left}` }));
	const taken: number[] = [];
	// The first of these that have room.
	for (const ns of [6e10, 1e9, 1e6, 1e3, 1e10, 3.6e12, 1e8, 1e5, 6.2e10, 3e10, 6.1e10, 6.3e10, 1e7, 1e4, 5e10, 4e10, 6.5e10, 1.2e11, 6e11, 8.64e13]) {
		const at = x(place(ns));
		if (place(ns) < low || place(ns) > high || taken.some((x) => Math.abs(x - at) < 46)) continue;
		taken.push(at);
		svg.append(s("path", { class: "axis", d: `M${at} ${height - bottom}v5` }));
		svg.append(s("text", { x: Math.min(Math.max(at, 20), width - 20), y: height - 8, "text-anchor": "middle" }, ns < 1e6 ? `${ns / 1e3} µs` : ns < 1e9 ? `${ns / 1e6} ms` : ns < 600e9 ? `${ns / 1e9} s` : `${ns / 60e9} min`));
	}
	const said = [`${count(d.count)} sockets left ${state}; half of them after ${span(quantile(d, 0.5, bounds))}, the longest after ${span(d.max_ns)}.`];
	if (marked) {
		const [from, to] = [Math.floor(place(band.undisturbed_from_ns)), Math.floor(place(band.undisturbed_to_ns))];
		const within = d.buckets.reduce((n, [b, c]) => (b >= from && b <= to ? n + c : n), 0);
		said.push(`${count(within)} lie in the buckets of the undisturbed time. Timers were started again ${count(m.sums.rearms)} times.`);
	}
	const rows = d.buckets.map(([b, n]) => [between(bounds, b), count(n)]);
	return [h("p", {}, said.join(" ")), h("figure", {}, svg), h("details", {}, h("summary", {}, "Numbers"), table(`Length of ${state}`, ["from, to", ">sockets"], rows))];
}

const between = (bounds: number[], bucket: number) => `${span(bounds[bucket]!)} to ${bounds[bucket + 1] ? span(bounds[bucket + 1]!) : "any"}`;
