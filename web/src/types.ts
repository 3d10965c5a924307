// What the server tells: see internal/page. Times end in _ns, and what is not known is null.

export interface Hello {
	event: "hello";
	start: string; // another one is another server: its events have the same numbers
	host: string;
	version: string;
	by: string; // what the groups of frames are called by; "": there are none
	hooks: string;
	refresh_ns: number;
	keep_ns: number;
	bounds_ns: number[]; // lower ends of the buckets
	time_wait: { undisturbed_from_ns: number; undisturbed_to_ns: number } | null;
}

interface Numbered {
	n: number; // without gaps
	time: string;
}

export interface Frame extends Numbered {
	event: "frame";
	span_ns: number;
	live: Counts;
	edges: [from: string, to: string, count: number][];
	ends: [state: string, reason: string, detail: string, count: number][];
	durations: Record<string, Durations>; // by state; "handshake"; "session " and the role
	first_fins: [role: string, sent: number, received: number][];
	rearms: number;
	seen: number;
	lost: Counts;
	ungrouped: number;
	groups?: Group[];
	others?: Group;
}

export type Counts = Record<string, number>;

export interface Durations {
	total_ns: number;
	max_ns: number;
	buckets: [bucket: number, count: number][];
}

export interface Group {
	name: string | null;
	groups?: number;
	live: Counts;
	opened: number;
	accepted: number;
	closed: number;
	moves: number;
}

export interface Lists extends Numbered {
	event: "lists";
	lists: Record<string, ListGroup[]>;
}

// An object of finwait ls --by.
export interface ListGroup {
	event: "ls_group" | "ls_others";
	by: string;
	name?: string | null;
	comm?: string | null;
	netns?: number | null;
	netns_name?: string | null;
	local_addr?: string | null;
	ports_used?: number | null;
	ports_usable?: number | null;
	held_by_bind?: number | null;
	groups?: number;
	sockets: number;
	states: Counts;
	oldest_ns: number | null;
	precision: string;
}

export interface Findings extends Numbered {
	event: "findings";
	findings: (Finding | Checkup)[];
	fin_timeout_ns: [least: number, most: number] | null;
}

// An object of finwait doctor.
export interface Finding {
	event: "finding";
	id: string;
	severity: string;
	title: string;
	netns: number | null;
	netns_name?: string | null;
	scope: Record<string, unknown>;
	evidence: Record<string, unknown>;
	confidence: string;
	text: string;
	cause: string;
	fix: { do: string; risk: string }[];
	do_not: string[] | null;
	commands: string[] | null;
}

export interface Checkup {
	event: "checkup";
	not_checked: { id: string; in_part: boolean; why: string }[];
}

export interface Audit extends Numbered {
	event: "audit";
	agree: number;
	explained: number;
	disagree: number;
	not_compared: number;
	rows: { netns: number; counter?: string; kernel?: number; finwait?: number; verdict: string; cause: string }[];
	rows_left: number;
}

export interface Trouble extends Numbered {
	event: "trouble";
	what: string;
	why: string;
}

export type Told = Frame | Lists | Findings | Audit | Trouble;

// What a tab gets at a time, and what it says that it has.
export interface Batch {
	hello: Hello | null;
	connected: boolean;
	events: Told[];
}
export interface Wanted {
	start: string;
	last: number;
	connected: boolean;
}
