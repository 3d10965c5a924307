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

// openFeed finds the best way. tell is told which one it is.
export function openFeed(tell: (way: string) => void): Feed {
	let way: Feed = polling;
	try {
		const worker = new SharedWorker("worker.js", { name: "finwait" });
		let answer: (batch: Batch | null) => void = () => {};
		worker.port.onmessage = (e) => answer(e.data as Batch);
		// The worker could not be loaded or has failed.
		worker.onerror = () => {
			way = polling;
			tell("polling");
			answer(null);
		};
		way = (wanted) =>
			new Promise((resolve) => {
				answer = (batch) => resolve(batch ?? { hello: null, connected: wanted.connected, events: [] });
				worker.port.postMessage(wanted);
			});
		tell("shared");
	} catch {
		tell("polling");
	}
	return (wanted) => way(wanted);
}
