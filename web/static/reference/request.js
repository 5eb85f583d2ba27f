// What is sent for a call, made from the values of its fields.

// `values`: field name to what was put in: a text, or for a file field a list of files (in examples: their names).
// `body`: "form", "JSON" or undefined. `token`: what goes into the header of calls that need it, or "".
export function makeRequest(call, body, values, token) {
  const given = (place) => call.fields.filter(({ name, in: places }) => places.includes(place) && values.has(name));
  let path = call.path;
  for (const { name } of given("path")) path = path.replace(`{${name}}`, encodeURIComponent(values.get(name)));
  const query = new URLSearchParams(given("query").map(({ name }) => [name, values.get(name)])).toString();
  const request = {
    method: call.method,
    url: location.origin + path + (query && `?${query}`),
    headers: given("header").map(({ name }) => [name, values.get(name)]),
    expects: call.expects,
  };
  if (call.token && token) request.headers.unshift(["Authorization", `Bearer ${token}`]);
  if (body === "JSON") {
    request.json = Object.fromEntries(given("JSON").map((field) => [field.name, jsonValue(field, values.get(field.name))]));
  } else if (body === "form") {
    request.form = given("form").flatMap(({ name }) => [values.get(name)].flat().map((value) => [name, value]));
  }
  return request;
}

// What the server does not accept is sent as it was put in: its answer says what is wrong.
function jsonValue({ kind }, value) {
  if (typeof value !== "string") return value;
  if (kind === "numbers" && !value.startsWith("[")) return value.split(",").map(numberOrText);
  if (kind === "number") return numberOrText(value);
  if (kind === "boolean") return value === "true";
  if (kind === "text" || kind === "choice") return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

function numberOrText(text) {
  return text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text);
}

// The JSON body of a request. From a browser the server takes no change without one, so that no form of another site
// can make it.
export function jsonBody(request) {
  return request.json ?? (request.method === "POST" && !request.form ? {} : undefined);
}

// The arguments of `fetch`.
export function fetchArguments(request, signal) {
  const headers = new Headers(request.headers);
  const json = jsonBody(request);
  let body;
  if (json !== undefined) {
    headers.set("Content-Type", "application/json");
    body = JSON.stringify(json);
  } else if (request.form) {
    body = new FormData();
    for (const [name, value] of request.form) body.append(name, value);
  }
  return [request.url, { method: request.method, headers, body, signal, cache: "no-store" }];
}
