/** Numbers as people read them. An unknown amount is said to be unknown, never shown as 0. */

const COUNT = new Intl.NumberFormat("en-US");

/** Dollars: cents above a dollar, four significant digits below; "unknown" for null. */
export function usd(amount) {
  if (amount === null || amount === undefined) return "unknown";
  if (amount === 0) return "$0";
  const size = Math.abs(amount);
  const digits = size >= 1 ? 2 : Math.min(6, 2 - Math.floor(Math.log10(size)));
  return `${amount < 0 ? "−" : ""}$${size.toFixed(digits)}`;
}

export function count(number) {
  return number === null || number === undefined ? "unknown" : COUNT.format(number);
}

/** "1 page", "22 pages". */
export function counted(number, noun, plural = `${noun}s`) {
  return `${count(number)} ${number === 1 ? noun : plural}`;
}

export function percent(share, digits = 0) {
  if (share === null || share === undefined) return "unknown";
  return `${(share * 100).toFixed(digits)}%`;
}

/** A probability with two digits; a dash when there is none. */
export function chance(p) {
  return p === null || p === undefined ? "–" : p.toFixed(2);
}

export function bytes(number) {
  if (number < 1000) return counted(number, "byte");
  if (number < 1e6) return `${(number / 1e3).toFixed(1)} kB`;
  return `${(number / 1e6).toFixed(1)} MB`;
}

export function seconds(s) {
  if (s === null || s === undefined) return "unknown";
  return s < 60 ? `${s.toFixed(1)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
}

/** A Unix time or an ISO date as a short local time; the day as well when it isn't today. */
export function when(time) {
  const date = new Date(typeof time === "number" ? time * 1000 : time);
  if (Number.isNaN(date.getTime())) return "";
  const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const today = date.toDateString() === new Date().toDateString();
  return today
    ? clock
    : `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${clock}`;
}
