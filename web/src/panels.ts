// What stands below the state machine: each panel is made from a moment.

import { bar, type Cell, clock, count, h, named, rate, span, table } from "./dom";
import { pickKey, type Pick } from "./machine";
import { durations, quantile, type Moment } from "./store";
import type { Checkup, Finding, Group, ListGroup } from "./types";

const states = ["LISTEN", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSING", "TIME_WAIT", "CLOSE_WAIT", "LAST_ACK"];

// stateOf is the state that a list is filtered by. Lists know states, not transitions: of an edge it is
// the state that the edge leads to, or if that is CLOSED the one that it comes from.
export function stateOf(pick: Pick): string {
	if (!pick) return "";
	if ("state" in pick) return pick.state === "CLOSED" ? "" : pick.state;
	return pick.to === "CLOSED" ? pick.from : pick.to;
}

export function ends(m: Moment, pick: Pick): HTMLElement[] {
	let all = [...m.sums.ends].map(([key, n]) => {
		const [state, reason, detail] = key.split(" ") as [string, string, string];
		return { state, reason, detail, n };
	});
	const from = pick ? ("state" in pick ? pick.state : pick.from) : "";
	if (from !== "" && from !== "CLOSED") all = all.filter((e) => e.state === from);
	if (pick && "to" in pick && pick.to !== "CLOSED") {
		return [h("p", { class: "empty" }, `${pickKey(pick)} ends no socket.`)];
	}
	if (all.length === 0) return [h("p", { class: "empty" }, `No socket has ended${from && from !== "CLOSED" ? ` from ${from}` : ""} in this time.`)];
	const total = all.reduce((n, e) => n + e.n, 0);
	all.sort((a, b) => b.n - a.n);
	const rows = all.map((e): Cell[] => [
		e.reason || "-",
		e.detail || "",
		e.state,
		h("span", { class: "barred" }, bar(e.n / total), h("span", {}, count(e.n))),
	]);
	return [table(`${count(total)} ends in ${spanOf(m)}`, ["reason", "detail", "closed from", ">ends"], rows)];
}

// firstFINs says which end of the connections closes first.
export function firstFINs(m: Moment): HTMLElement[] {
	const sums = new Map<string, [sent: number, received: number]>();
	for (const f of m.sums.frames) {
		for (const [role, sent, received] of f.first_fins) {
			const s = sums.get(role) ?? [0, 0];
			sums.set(role, [s[0] + sent, s[1] + received]);
		}
	}
	if (sums.size === 0) return [h("p", { class: "empty" }, "No connection was closed with a FIN in this time.")];
	const rows = ["client", "server", ""].flatMap((role): Cell[][] => {
		const s = sums.get(role);
		return s ? [[role || "role not known", count(s[0]), count(s[1])]] : [];
	});
	return [
		table(`Connections of this host by their role, in ${spanOf(m)}`, ["this host is", ">sent the first FIN", ">received it"], rows),
		h("p", { class: "key" }, "The end that sends the first FIN goes through TIME_WAIT. Two FINs that cross are both first."),
	];
}

const spanOf = (m: Moment) => `the last ${span(m.sums.seconds * 1e9)}`;

// What has durations beside the states: its key in a frame, its name, and the state of which it is a part.
const parts: [key: string, name: string, state: string][] = [
	["handshake", "handshake of clients", "SYN_SENT"],
	["session client", "session of clients", "ESTABLISHED"],
	["session server", "session of servers", "ESTABLISHED"],
	["session ", "session, role not known", "ESTABLISHED"],
];

export function spent(m: Moment, pick: Pick): HTMLElement[] {
	const only = stateOf(pick);
	const rows: Cell[][] = [];
	for (const [key, name, state] of [...parts, ...states.map((s) => [s, s, s] as const)]) {
		if (only !== "" && state !== only) continue;
		const d = durations(m.sums.frames, key);
		if (d.count === 0) continue;
		const q = (part: number) => span(quantile(d, part, m.hello.bounds_ns));
		rows.push([name, count(d.count), q(0.5), q(0.9), q(0.99), span(d.max_ns)]);
	}
	if (rows.length === 0) return [h("p", { class: "empty" }, "No socket whose start in the state was seen has left it in this time.")];
	return [
		table(`Sockets that left the state in ${spanOf(m)}, and whose start in it was seen`, ["time in", ">sockets", ">p50", ">p90", ">p99", ">longest"], rows),
		h("p", { class: "key" }, "A handshake is from SYN_SENT to ESTABLISHED; SYN_SENT has the connects that failed, too. A session is the time in ESTABLISHED, until the first FIN or an RST."),
	];
}

// groups are those of the chosen split, as new as the frame.
export function groups(m: Moment, pick: Pick): HTMLElement[] {
	const only = stateOf(pick);
	const frames = m.recent.frames;
	const live = (g: Group) => (only ? (g.live[only] ?? 0) : Object.values(g.live).reduce((n, c) => n + c, 0));
	const recent = (name: string | null, of: (g: Group) => number): string => {
		let n = 0;
		for (const f of frames) {
			const g = f.groups?.find((g) => g.name === name);
			if (!g) return "-"; // it was one of the others, or was not there
			n += of(g);
		}
		return rate(n, m.recent.seconds);
	};
	const shown = (m.frame.groups ?? []).filter((g) => only === "" || live(g) > 0).sort((a, b) => live(b) - live(a));
	if (shown.length === 0) return [h("p", { class: "empty" }, only ? `No group has a socket in ${only}.` : "There are no groups.")];
	const rows = shown.map((g): Cell[] => [
		g.name === null ? "not known" : named(g.name),
		count(live(g)),
		recent(g.name, (g) => g.opened),
		recent(g.name, (g) => g.accepted),
		recent(g.name, (g) => g.closed),
	]);
	const o = m.frame.others;
	if (o) rows.push([`${count(o.groups ?? 0)} others`, count(live(o)), "", "", ""]);
	const notes = m.frame.ungrouped > 0 ? [h("p", { class: "warn" }, `There was no room for all groups: ${count(m.frame.ungrouped)} transitions are in none.`)] : [];
	return [table(`At ${clock(m.frame.time)}; rates are of the last ${span(m.recent.seconds * 1e9)}`, [m.hello.by, only ? `>in ${only}` : ">sockets", ">connects", ">accepted", ">ended"], rows), ...notes];
}

const lists: [by: string, title: string][] = [
	["port", "Ports"],
	["pid", "Processes"],
	["destination", "Destinations"],
	["pod", "Pods"],
];

// sockets are the lists of the last refresh.
export function sockets(m: Moment, pick: Pick): HTMLElement[] {
	if (!m.lists) return [h("p", { class: "empty" }, "The sockets were not listed yet.")];
	const only = stateOf(pick);
	const out: HTMLElement[] = [
		h("p", {}, `Listed at ${clock(m.lists.time)}${m.hello.refresh_ns > 0 ? `, every ${span(m.hello.refresh_ns)}` : ""}${only ? `; only what has sockets in ${only}` : ""}.`),
	];
	const grid = h("div", { class: "grid" });
	for (const [by, title] of lists) {
		const of = m.lists.lists[by] ?? [];
		const shown = of.filter((g) => only === "" || (g.states[only] ?? 0) > 0);
		if (by === "pod" && !of.some((g) => g.name)) continue; // there are none
		grid.append(h("div", {}, shown.length > 0 ? list(by, title, shown, only) : h("p", { class: "empty" }, `${title}: none has a socket in ${only || "any state"}.`)));
	}
	out.push(grid);
	return out;
}

function list(by: string, title: string, all: ListGroup[], only: string): HTMLElement {
	const ports = by === "destination";
	const rows = all.map((g): Cell[] => {
		const row: Cell[] = [groupName(g), count(only ? (g.states[only] ?? 0) : g.sockets)];
		if (ports) row.push(used(g));
		row.push(summary(g, only), g.oldest_ns === null ? "-" : `${g.precision === "at_least" ? "> " : ""}${span(g.oldest_ns)}`);
		return row;
	});
	return table(title, [by, only ? `>in ${only}` : ">sockets", ...(ports ? [">ports used"] : []), "states", ">oldest"], rows);
}

function groupName(g: ListGroup): Node {
	if (g.event === "ls_others") return document.createTextNode(`${count(g.groups ?? 0)} others`);
	if (g.name === null || g.name === undefined) return document.createTextNode("not known");
	const name = h("span", {}, named(g.by === "pid" && g.comm ? g.comm : g.name));
	if (g.by === "pid") name.append(h("small", {}, ` ${g.name}`));
	if (g.by === "destination" && g.local_addr) name.append(h("small", {}, " from ", named(g.local_addr)));
	if (g.by === "destination" && g.netns_name) name.append(h("small", {}, " in ", named(g.netns_name)));
	return name;
}

function used(g: ListGroup): Cell {
	if (g.ports_used === null || g.ports_used === undefined || !g.ports_usable) return "-";
	const share = g.ports_used / g.ports_usable;
	const kind = share > 0.9 ? "over" : share > 0.7 ? "near" : "";
	return h("span", { class: "barred" }, bar(share, kind), h("span", {}, `${count(g.ports_used)} of ${count(g.ports_usable)}${kind === "over" ? " !" : ""}`));
}

function summary(g: ListGroup, only: string): Cell {
	const all = Object.entries(g.states).sort((a, b) => b[1] - a[1]);
	const words = all.filter(([state]) => state !== only).slice(0, 3).map(([state, n]) => `${state} ${count(n)}`);
	return h("small", {}, words.join(", ") + (all.length > 3 ? ", …" : ""));
}

// Signs and words of severities. The worst come first from the server.
const severities: Record<string, string> = { failing: "✖ failing", will_fail: "▲ will fail", slow: "◆ slow", risk: "◆ risk", note: "● note", ok: "✔ harmless" };

export function findings(m: Moment, open: Set<string>): HTMLElement[] {
	if (!m.findings) return [h("p", { class: "empty" }, "The doctor was not asked yet.")];
	const all = m.findings.findings.filter((f): f is Finding => f.event === "finding");
	const checkup = m.findings.findings.find((f): f is Checkup => f.event === "checkup");
	const out: HTMLElement[] = [];
	const bad = all.filter((f) => f.severity !== "ok");
	out.push(h("p", {}, `Looked at ${clock(m.findings.time)}: ${bad.length === 0 ? "nothing that was checked is wrong" : `${bad.length} ${bad.length === 1 ? "finding" : "findings"}`}.`));
	const kept = (key: string, d: HTMLDetailsElement) => {
		d.open = open.has(key);
		d.addEventListener("toggle", () => (d.open ? open.add(key) : open.delete(key)));
		return d;
	};
	for (const f of all) {
		const key = [f.id, f.netns, JSON.stringify(f.scope)].join(" ");
		const more = h("details", {}, h("summary", {}, "Cause, evidence and fix"));
		const terms = h("dl");
		const term = (word: string, ...what: (Node | string)[]) => terms.append(h("dt", {}, word), h("dd", {}, ...what));
		term("cause", f.cause);
		term("evidence", evidence({ ...f.scope, ...f.evidence }));
		for (const fix of f.fix) term("fix", fix.do, ...(fix.risk ? [h("p", {}, h("em", {}, "Risk: "), fix.risk)] : []));
		for (const not of f.do_not ?? []) term("do not", not);
		for (const command of f.commands ?? []) term("look", h("code", {}, named(command)));
		term("more", h("code", {}, `finwait doctor --explain ${f.id}`));
		more.append(terms);
		out.push(
			h(
				"article",
				{ class: `finding ${f.severity}` },
				h("h3", {}, h("span", { class: "severity" }, severities[f.severity] ?? f.severity), " ", f.id, f.confidence === "inferred" ? h("small", {}, " inferred") : null),
				h("p", {}, named(f.text)),
				f.netns !== null ? h("p", { class: "key" }, "network namespace ", named(f.netns_name ?? String(f.netns))) : null,
				kept(key, more),
			),
		);
	}
	const not = checkup?.not_checked ?? [];
	if (not.length > 0) {
		const items = not.map((n) => h("li", {}, h("code", {}, n.id), `${n.in_part ? " in part" : ""}: ${n.why}`));
		out.push(kept("not checked", h("details", {}, h("summary", {}, `${not.length} not checked, or in part`), h("ul", {}, ...items))));
	}
	return out;
}

function evidence(all: Record<string, unknown>): HTMLElement {
	const rows = Object.entries(all).map(([key, v]) => {
		let value: string;
		if (v === null) value = "not known";
		else if (key.endsWith("_ns") && typeof v === "number") [key, value] = [key.slice(0, -3), span(v)];
		else if (typeof v === "number") value = Number.isInteger(v) ? count(v) : String(v);
		else if (typeof v === "object") value = Object.values(v as object).filter((x) => x !== null).join(" ");
		else value = String(v);
		return h("li", {}, `${key.replaceAll("_", " ")}: `, named(value));
	});
	return h("ul", {}, ...rows);
}
