import { Charts, lengths } from "./charts";
import { byID, clock, count, h, setText, span } from "./dom";
import { openFeed } from "./feed";
import { Machine, pickKey, type Pick } from "./machine";
import * as panels from "./panels";
import { Store, type Moment } from "./store";

const live = new Store();
let frozen: Store | null = null; // what is shown while the page is paused; live goes on
let index = 0; // of the frame of frozen that is shown
let pick: Pick = null;
let connected = false;
let heard = performance.now(); // when the last event came
const openDetails = new Set<string>();

const pauseButton = byID("pause") as HTMLButtonElement;
const slider = byID("moment") as HTMLInputElement;
const windowOf = byID("window") as HTMLSelectElement;
const machine = new Machine((p) => {
	pick = pickKey(p) === pickKey(pick) ? null : p;
	say(pick ? `Only ${pickKey(pick)}` : "Everything");
	draw();
});
const charts = new Charts(byID("time"));

// say tells a reader of the screen what a click has done. Numbers that change by themselves are not told.
function say(text: string) {
	setText(byID("said"), text);
}

function pauseAt(at: number) {
	if (live.frames.length === 0) return;
	frozen ??= live.freeze();
	index = Math.min(Math.max(at, 0), frozen.frames.length - 1);
	draw();
}

function goOn() {
	frozen = null;
	say("Live");
	draw();
}

const shown = () => (frozen ? index : live.frames.length - 1);

pauseButton.addEventListener("click", () => {
	if (frozen) return goOn();
	pauseAt(shown());
	say("Paused. Nothing is lost meanwhile.");
});
slider.addEventListener("input", () => pauseAt(Number(slider.value)));
byID("back").addEventListener("click", () => pauseAt(shown() - 1));
byID("forth").addEventListener("click", () => pauseAt(shown() + 1));
windowOf.addEventListener("change", () => draw());
byID("controls").addEventListener("submit", (e) => e.preventDefault());

let due = false;
// draw draws once for all that has happened, when the browser draws: not in a tab that is hidden.
function draw() {
	if (due) return;
	due = true;
	requestAnimationFrame(() => {
		due = false;
		drawNow();
	});
}

function drawNow() {
	const store = frozen ?? live;
	const m = store.at(shown(), Number(windowOf.value));
	drawStatus();
	if (!m) return;
	slider.max = String(store.frames.length - 1);
	slider.value = String(shown());
	const at = clock(m.frame.time);
	slider.setAttribute("aria-valuetext", at);
	setText(byID("shown"), frozen ? `${at}, ${ago(m)}` : at);
	setText(pauseButton, frozen ? "Go on" : "Pause");
	pauseButton.setAttribute("aria-pressed", String(frozen !== null));
	document.body.classList.toggle("paused", frozen !== null);
	document.title = `finwait ${m.hello.host}`;
	setText(byID("host"), m.hello.host);
	health(m);
	const clear = h("button", { type: "button" }, "Show everything");
	clear.addEventListener("click", () => {
		pick = null;
		draw();
	});
	const key = pickKey(pick);
	const picked = byID("pick");
	if (picked.dataset["key"] !== key) {
		picked.dataset["key"] = key;
		picked.replaceChildren(...(pick ? ["Below is only what concerns ", h("strong", {}, key), ". ", clear] : ["Choose a state or an arrow to see only what concerns it."]));
	}
	setText(byID("fresh"), `Counts of ${at}, rates of the last ${span(m.recent.seconds * 1e9)}${m.lists ? `, ages of ${clock(m.lists.time)}` : ", no ages yet"}.`);
	machine.show(m, pick);
	panel("findings", panels.findings(m, openDetails));
	charts.show(m, pick);
	panel("ends", panels.ends(m, pick));
	const state = panels.stateOf(pick) || "TIME_WAIT";
	setText(byID("h-length"), `Length of ${state}`);
	panel("length", lengths(m, state));
	panel("spent", panels.spent(m, pick));
	panel("first-fins", panels.firstFINs(m));
	byID("groups").hidden = m.hello.by === "";
	setText(byID("h-groups"), `By ${m.hello.by}`);
	if (m.hello.by !== "") panel("groups", panels.groups(m, pick));
	panel("lists", panels.sockets(m, pick));
	document.documentElement.dataset["drawn"] = String(m.frame.n);
}

const drawn = new Map<string, string>();

// panel replaces what is below the heading of a section, if it has changed and no text in it is selected.
// What has the focus keeps it.
function panel(id: string, content: HTMLElement[]) {
	const section = byID(id);
	const html = content.map((e) => e.outerHTML).join("");
	const selection = getSelection();
	if (drawn.get(id) === html || (selection && !selection.isCollapsed && section.contains(selection.anchorNode))) return;
	const focused = document.activeElement;
	const stops = "summary, .scrolls, button";
	const used = focused && section.contains(focused) ? [...section.querySelectorAll(stops)].indexOf(focused) : -1;
	const open = [...section.querySelectorAll("details")].map((d) => d.open);
	drawn.set(id, html);
	const heading = section.querySelector("h2")!;
	section.replaceChildren(heading, ...content);
	section.querySelectorAll("details").forEach((d, i) => {
		if (id !== "findings" && open[i]) d.open = true;
	});
	if (used >= 0) (section.querySelectorAll(stops)[used] as HTMLElement | undefined)?.focus({ preventScroll: true });
}

function ago(m: Moment): string {
	const last = live.frames.at(-1);
	if (!last) return "";
	return `${Math.round((Date.parse(last.time) - Date.parse(m.frame.time)) / 1000)} s before now`;
}

// drawStatus says whether what is shown is new.
function drawStatus() {
	const quiet = (performance.now() - heard) / 1000;
	const link = byID("link");
	const late = !connected || quiet > 10;
	link.className = late ? "bad" : frozen ? "warn" : "good";
	const gone = live.missed > 0 ? `, ${count(live.missed)} readings missed` : "";
	setText(link, !connected ? `▲ no connection${live.hello ? `, last news ${Math.round(quiet)} s ago` : ""}` : late ? `▲ no news for ${Math.round(quiet)} s` : frozen ? `❚❚ paused${gone}` : `● live${gone}`);
}

function health(m: Moment) {
	const lost = byID("loss");
	lost.className = m.sums.lost > 0 ? "bad" : "good";
	const causes = Object.entries(m.sums.causes).filter(([, n]) => n > 0).map(([cause, n]) => `${cause} ${count(n)}`);
	setText(lost, `${m.sums.lost > 0 ? "▲" : "✔"} lost ${count(m.sums.lost)} of ${count(m.sums.seen)} in ${span(m.sums.seconds * 1e9)}${causes.length > 0 ? `: ${causes.join(", ")}` : ""}`);
	const audit = byID("audit");
	const troubles = m.troubles.map((t) => `${t.what}: ${t.why}`);
	if (!m.audit) {
		audit.className = "";
		setText(audit, ["– audit: none yet", ...troubles].join("; "));
		return;
	}
	const a = m.audit;
	audit.className = a.disagree > 0 || troubles.length > 0 ? "bad" : "good";
	setText(audit, [`${a.disagree > 0 ? "▲" : "✔"} audit ${clock(a.time)}: ${count(a.agree)} agree, ${count(a.explained)} explained, ${count(a.disagree)} disagree${a.not_compared > 0 ? `, ${count(a.not_compared)} namespaces not compared` : ""}`, ...troubles].join("; "));
	audit.title = a.rows.filter((r) => r.verdict === "disagrees").map((r) => `${r.netns} ${r.counter}: kernel ${r.kernel}, finwait ${r.finwait}`).join("\n");
}

async function follow() {
	const feed = openFeed((way) => (document.documentElement.dataset["feed"] = way));
	for (;;) {
		const batch = await feed({ start: live.hello?.start ?? "", last: live.last, connected });
		connected = batch.connected;
		if (batch.events.length > 0) heard = performance.now();
		live.take(batch);
		drawStatus(); // also in a tab that is hidden
		document.documentElement.dataset["last"] = String(live.last);
		draw();
	}
}

setInterval(drawStatus, 1000);
void follow();
