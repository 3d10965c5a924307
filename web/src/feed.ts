// Where a tab gets its events from: a worker that all tabs share, because a browser opens no more than
// six connections to a host; or, where there is no such worker, questions every two seconds. A tab asks
// for what comes after the last event that it has. So a tab that sleeps has nothing waiting for it.

import type { Batch, Hello, Told, Wanted } from "./types";

export type Feed = (wanted: Wanted) => Promise<Batch>;

// poll asks once.
export async function poll(start: string, last: number): Promise<Batch> {
	try {
		const response = await fetch(`history?after=${start}-${last}`, { cache: "no-store" });
		if (!response.ok) throw new Error(response.statusText);
		const [hello, ...events] = (await response.json()) as [Hello, ...Told[]];
		return { hello, connected: true, events };
	} catch {
		return { hello: null, connected: false, events: [] };
	}
}

export const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

const polling: Feed = async (wanted) => {
	if (wanted.start !== "") await pause(2000);
	return poll(wanted.start, wanted.last);
};

// patience is for how many ms a tab waits for the worker. A browser may have put the worker to sleep, or
// ended it.
const patience = 10000;

// openFeed finds the best way. tell is told by which one each answer came.
export function openFeed(tell: (way: string) => void): Feed {
	let port: MessagePort | null = null;
	let answer: (batch: Batch | null) => void = () => {};
	try {
		const worker = new SharedWorker("worker.js", { name: "finwait" });
		port = worker.port;
		port.onmessage = (e) => answer(e.data as Batch);
		worker.onerror = () => {
			port = null; // it could not be loaded
			answer(null);
		};
	} catch {
		// This browser has none.
	}
	return async (wanted) => {
		if (port) {
			port.postMessage(wanted);
			const batch = await new Promise<Batch | null>((resolve) => {
				answer = resolve;
				setTimeout(resolve, patience, null);
			});
			tell(batch ? "shared" : "polling");
			return batch ?? poll(wanted.start, wanted.last);
		}
		tell("polling");
		return polling(wanted);
	};
}
