// Numbers, sizes and times for people.

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(n) {
  if (n == null) return "–";
  let unit = 0;
  while (Math.abs(n) >= 1024 && unit < BYTE_UNITS.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${digits(n, unit === 0)} ${BYTE_UNITS[unit]}`;
}

export const rate = (n) => (n == null ? "–" : `${bytes(n)}/s`);

// Three digits that matter.
function digits(n, whole) {
  if (whole || n === 0) return String(Math.round(n));
  const size = Math.abs(n);
  return n.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

const grouped = new Intl.NumberFormat("en");

export const count = (n) => (n == null ? "–" : grouped.format(n));

// 12,345 stays; 12,345,678 becomes 12.3 M.
export function short(n) {
  if (n == null) return "–";
  for (const [limit, unit] of [[1e12, " T"], [1e9, " G"], [1e6, " M"]]) {
    if (Math.abs(n) >= limit) return digits(n / limit) + unit;
  }
  return Math.abs(n) < 100 && !Number.isInteger(n) ? digits(n) : grouped.format(Math.round(n));
}

export function micros(us) {
  if (us == null) return "–";
  if (us < 1000) return `${digits(us, us >= 10)} µs`;
  return us < 1e6 ? `${digits(us / 1e3)} ms` : `${digits(us / 1e6)} s`;
}

export function duration(ms) {
  if (ms == null) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const steps = [["d", 86400000], ["h", 3600000], ["min", 60000], ["s", 1000]];
  const first = steps.findIndex(([, size]) => ms >= size);
  const [unit, size] = steps[first];
  const whole = Math.floor(ms / size);
  const next = steps[first + 1];
  if (!next || whole >= 10) return unit === "s" ? `${digits(ms / 1000)} s` : `${whole} ${unit}`;
  const rest = Math.floor((ms - whole * size) / next[1]);
  return rest === 0 ? `${whole} ${unit}` : `${whole} ${unit} ${rest} ${next[0]}`;
}

export function hours(h) {
  return h == null ? null : duration(h * 3600000);
}

const pad = (n, width = 2) => String(n).padStart(width, "0");

export function day(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
}

export function clock(ms, withMs = false) {
  const at = new Date(ms);
  const text = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return withMs ? `${text}.${pad(at.getMilliseconds(), 3)}` : text;
}

// What a record says of its time may lie beyond what the browser has dates for.
const TIME_MAX = 8.64e15;

// The time of day, with the date unless it is today's.
export function time(ms) {
  if (ms == null || ms < 0) return "no time";
  if (ms > TIME_MAX) return String(ms);
  return day(ms) === day(Date.now()) ? clock(ms, true) : `${day(ms)} ${clock(ms, true)}`;
}

export function timeLong(ms) {
  if (ms == null || ms < 0) return "no time";
  return ms > TIME_MAX ? String(ms) : `${new Date(ms).toISOString()} (${ms})`;
}

// What <input type="datetime-local"> takes.
export const inputTime = (ms) => `${day(ms)}T${clock(ms)}`;

export function ago(ms) {
  const since = Date.now() - ms;
  return since < 0 ? "in the future" : `${duration(since)} ago`;
}

// Where clients connect; an address of IPv6 stands in brackets.
export const endpoint = ({ host, port }) => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// A setting's value with what it means: 604800000 is 7 d.
export function meaning(name, value) {
  if (value == null || !/^-?\d+$/.test(value)) return null;
  const number = Number(value);
  if (number >= 9223372036854775000 || (number === -1 && /retention|ms$|bytes$/.test(name))) return "no limit";
  if (number < 1000) return null;
  if (/(^|[.-])ms$/.test(name)) return duration(number);
  if (/bytes/.test(name)) return bytes(number);
  return null;
}
