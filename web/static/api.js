// Talks to the JSON API. Every failure becomes an ApiError with a text for people.
// Who is at the browser the server knows by a cookie, which no script can read.

export class ApiError extends Error {
  constructor(status, title, detail, retrySeconds = null) {
    super(detail);
    this.status = status;
    this.title = title;
    this.retrySeconds = retrySeconds;
  }

  get unreachable() {
    return this.status === 0;
  }

  // Whether the server only wants it later, and says when.
  get isTooSoon() {
    return this.status === 429 && this.retrySeconds !== null;
  }
}

const JSON_TYPE = { "Content-Type": "application/json" };

async function call(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached", "Check that it is running, and try again.");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && (body !== null || response.status === 204)) return body;
  const after = Number.parseFloat(response.headers.get("Retry-After"));
  const retrySeconds = Number.isFinite(after) ? after : null;
  throw new ApiError(response.status, body?.title ?? "Something went wrong", body?.detail ?? response.statusText, retrySeconds);
}

export async function get(path, signal) {
  try {
    return await call(`/api/v1${path}`, { signal });
  } catch (error) {
    // Only a page that was open before the session ended comes here.
    if (error.status === 401) location.assign(signInAddress());
    throw error;
  }
}

export function postJson(path, body = {}) {
  return call(`/api/v1${path}`, { method: "POST", headers: JSON_TYPE, body: JSON.stringify(body) });
}

export function postForm(path, form) {
  return call(`/api/v1${path}`, { method: "POST", body: form });
}

// Exchanges the server's token for the cookie.
export function signIn(token) {
  return call("/sign-in", { method: "POST", headers: JSON_TYPE, body: JSON.stringify({ token }) });
}

// The page that asks for the token, and leads back here.
export function signInAddress() {
  return `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
}

// Also sent while the page is being left; what becomes of it does not matter.
export function sendDelete(path) {
  fetch(`/api/v1${path}`, { method: "DELETE", keepalive: true }).catch(() => {});
}
