// Talks to the JSON API. Every failure becomes an ApiError with a text for people.

export class ApiError extends Error {
  constructor(status, title, detail) {
    super(detail);
    this.status = status;
    this.title = title;
  }

  get unreachable() {
    return this.status === 0;
  }
}

const TOKEN = "imagesearch-token";

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export function storedToken() {
  return sessionStorage.getItem(TOKEN) ?? "";
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(`/api/v1${path}`, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached", "Check that it is running, and try again.");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  throw new ApiError(response.status, body?.title ?? "Something went wrong", body?.detail ?? response.statusText);
}

export function get(path, signal) {
  return call(path, { signal });
}

export function postJson(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  return call(path, { method: "POST", headers, body: JSON.stringify(body) });
}

export function postForm(path, form) {
  return call(path, { method: "POST", body: form });
}
