// The worker that all tabs share. It has the one stream, keeps what the server keeps, and gives each tab
// what it asks for.

import { pause, poll } from "./feed";
import type { Batch, Hello, Told, Wanted } from "./types";

let hello: Hello | null = null;
let events: Told[] = [];
let connected = false;
let queued = false;
const waiting = new Map<MessagePort, Wanted>();

function take(told: Hello | Told) {
	if (told.event !== "hello") {
		events.push(told);
		const oldest = Date.parse(told.time) - (hello?.keep_ns ?? 0) / 1e6;
		while (events.length > 1 && Date.parse(events[0]!.time) < oldest) events.shift();
		return;
	}
	if (told.start !== hello?.start) events = [];
	hello = told;
}

// flush answers those who wait, once for all events that have come together.
function flush() {
	if (queued) return;
	queued = true;
	setTimeout(() => {
		queued = false;
		for (const [port, wanted] of waiting) answer(port, wanted);
	});
}

function answer(port: MessagePort, wanted: Wanted) {
	const known = hello !== null && hello.start === wanted.start;
	const after = known ? events.filter((e) => e.n > wanted.last) : events;
	if (known && after.length === 0 && connected === wanted.connected) {
		waiting.set(port, wanted);
		return;
	}
	if (hello === null && connected === wanted.connected) {
		waiting.set(port, wanted);
		return;
	}
	waiting.delete(port);
	port.postMessage({ hello, connected, events: after } satisfies Batch);
}

function open() {
	const source = new EventSource("events");
	source.onmessage = (e) => {
		connected = true;
		take(JSON.parse(e.data as string) as Hello | Told);
		flush();
	};
	source.onerror = () => {
		connected = false;
		flush();
		// A stream that was refused is not tried again by itself: too many are open.
		if (source.readyState === EventSource.CLOSED) void askInstead();
	};
}

// askInstead asks for a minute, and then tries to open a stream again.
async function askInstead() {
	for (let i = 0; i < 30; i++) {
		const batch = await poll(hello?.start ?? "", events.at(-1)?.n ?? 0);
		connected = batch.connected;
		if (batch.hello) take(batch.hello);
		batch.events.forEach(take);
		flush();
		await pause(2000);
	}
	open();
}

addEventListener("connect", (e) => {
	const port = (e as MessageEvent).ports[0]!;
	port.onmessage = (m) => answer(port, m.data as Wanted);
});

open();
