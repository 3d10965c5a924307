// What a tab has of the last ten minutes, and what it was at a moment.

import type { Audit, Batch, Counts, Durations, Findings, Frame, Hello, Lists, Told, Trouble } from "./types";

// flowing is over how many seconds a rate is taken, so that it can be read.
const flowing = 5;

// A Moment is all that the page shows of one moment.
export interface Moment {
	hello: Hello;
	frame: Frame;
	frames: Frame[]; // all up to the moment
	sums: Sums; // over the window
	recent: Sums; // of the last seconds, for rates
	lists: Lists | undefined;
	findings: Findings | undefined;
	audit: Audit | undefined;
	troubles: Trouble[]; // since each was last read
}

// Sums are several frames together.
export interface Sums {
	frames: Frame[];
	seconds: number;
	edges: Map<string, number>; // by edgeKey
	ends: Map<string, number>; // by state, reason and detail
	lost: number;
	causes: Counts;
	seen: number;
	rearms: number;
}

export const edgeKey = (from: string, to: string) => `${from} → ${to}`;

export class Store {
	hello: Hello | null = null;
	last = 0;
	missed = 0; // events that were gone before this tab could read them
	told: Told[] = [];
	frames: Frame[] = [];

	take(batch: Batch) {
		if (batch.hello) {
			if (batch.hello.start !== this.hello?.start) {
				this.told = [];
				this.last = this.missed = 0;
			}
			this.hello = batch.hello;
		}
		for (const e of batch.events) {
			if (e.n <= this.last) continue;
			if (this.last > 0) this.missed += e.n - this.last - 1;
			this.last = e.n;
			this.told.push(e);
		}
		const end = this.told.at(-1);
		if (end && this.hello) {
			const oldest = Date.parse(end.time) - this.hello.keep_ns / 1e6;
			const from = this.told.findIndex((e) => Date.parse(e.time) >= oldest);
			if (from > 0) this.told = this.told.slice(from);
		}
		this.frames = this.told.filter((e) => e.event === "frame");
	}

	// freeze is a copy that does not change.
	freeze(): Store {
		return Object.assign(new Store(), this, { told: [...this.told], frames: [...this.frames] });
	}

	// at is the moment of a frame, with sums over so many seconds before it.
	at(index: number, window: number): Moment | null {
		const frame = this.frames[index];
		if (!frame || !this.hello) return null;
		const frames = this.frames.slice(0, index + 1);
		// What was read after the frame before the next one is of this moment, too.
		const next = this.frames[index + 1]?.n ?? Infinity;
		const until = this.told.filter((e) => e.n < next);
		const of = <E extends Told["event"]>(name: E) =>
			until.findLast((e): e is Extract<Told, { event: E }> => e.event === name);
		const [lists, findings, audit] = [of("lists"), of("findings"), of("audit")];
		const since: Record<string, number> = { lists: lists?.n ?? 0, findings: findings?.n ?? 0, audit: audit?.n ?? 0 };
		const troubles = new Map<string, Trouble>();
		for (const e of until) if (e.event === "trouble" && e.n > (since[e.what] ?? 0)) troubles.set(e.what, e);
		return {
			hello: this.hello,
			frame,
			frames,
			sums: sum(frames, window),
			recent: sum(frames, flowing),
			lists,
			findings,
			audit,
			troubles: [...troubles.values()],
		};
	}
}

// sum adds the last frames up that lie within so many seconds.
function sum(all: Frame[], seconds: number): Sums {
	let first = all.length;
	let left = seconds * 1e9 * 1.01; // an interval is a little longer than it should be
	while (first > 0 && left >= all[first - 1]!.span_ns) left -= all[--first]!.span_ns;
	const frames = all.slice(Math.min(first, all.length - 1));
	const s: Sums = { frames, seconds: 0, edges: new Map(), ends: new Map(), lost: 0, causes: {}, seen: 0, rearms: 0 };
	for (const f of frames) {
		s.seconds += f.span_ns / 1e9;
		s.seen += f.seen;
		s.rearms += f.rearms;
		for (const [from, to, n] of f.edges) add(s.edges, edgeKey(from, to), n);
		for (const [state, reason, detail, n] of f.ends) add(s.ends, [state, reason, detail].join(" "), n);
		for (const [cause, n] of Object.entries(f.lost)) {
			s.lost += n;
			s.causes[cause] = (s.causes[cause] ?? 0) + n;
		}
	}
	return s;
}

function add(to: Map<string, number>, key: string, n: number) {
	to.set(key, (to.get(key) ?? 0) + n);
}

// durations adds those of a state up.
export function durations(frames: Frame[], state: string): Durations & { count: number } {
	const counts = new Map<number, number>();
	const all = { total_ns: 0, max_ns: 0, count: 0 };
	for (const f of frames) {
		const d = f.durations[state];
		if (!d) continue;
		all.total_ns += d.total_ns;
		all.max_ns = Math.max(all.max_ns, d.max_ns);
		for (const [bucket, n] of d.buckets) {
			counts.set(bucket, (counts.get(bucket) ?? 0) + n);
			all.count += n;
		}
	}
	return { ...all, buckets: [...counts].sort((a, b) => a[0] - b[0]) };
}

// quantile is what Durations.Quantile of the tracer says: the middle of the bucket in which the duration
// of this rank is, but no more than the longest. null: there is none.
export function quantile(d: Durations & { count: number }, q: number, bounds: number[]): number | null {
	if (d.count === 0) return null;
	const rank = Math.min(Math.max(Math.ceil(q * d.count), 1), d.count);
	let seen = 0;
	for (const [bucket, n] of d.buckets) {
		if ((seen += n) < rank) continue;
		const low = bounds[bucket]!;
		const high = bounds[bucket + 1] ?? low;
		return Math.min(low + (high - low) / 2, d.max_ns);
	}
	return null;
}
