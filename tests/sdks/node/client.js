// Sends one of each thing with the Node SDK and prints what it sent: client.js DSN RELEASE.

import * as Sentry from "@sentry/node";

const [dsn, release] = process.argv.slice(2);
Sentry.init({ dsn, release, environment: "e2e", tracesSampleRate: 1, enableLogs: true, serverName: "web-1" });
Sentry.setUser({ id: "42", email: "ada@example.org", username: "ada" });
Sentry.setTag("flavour", "vanilla");

const exceptionId = Sentry.captureException(new TypeError("basket is not iterable"));

Sentry.addBreadcrumb({ category: "shop", message: "opened the basket", level: "info" });
Sentry.setContext("order", { number: 17 });
const messageId = Sentry.captureMessage("checkout is slow", "warning");

const root = Sentry.startSpan({ name: "checkout", op: "task", forceTransaction: true }, (span) => {
  Sentry.startSpan({ name: "SELECT 1", op: "db.query" }, () => {});
  Sentry.startSpan({ name: "GET /stock", op: "http.client" }, () => {});
  return span.spanContext();
});

Sentry.logger.info("payment of 5", { shop: "north" });
Sentry.logger.warn("stock is low");
Sentry.logger.error("payment failed");
await Sentry.flush(20_000);

console.log(JSON.stringify({
  sdk: "sentry.javascript.node", platform: "node",
  exception: { event_id: exceptionId, title: "TypeError: basket is not iterable", level: "error", exceptions: ["TypeError"] },
  message: { event_id: messageId, title: "checkout is slow", level: "warning", breadcrumb: "opened the basket", context: ["order", "number", "17"] },
  trace: { trace_id: root.traceId, root_span_id: root.spanId, name: "checkout", op: "task", spans: { "db.query": "SELECT 1", "http.client": "GET /stock" }, transaction: false },
  logs: { "payment of 5": "info", "stock is low": "warn", "payment failed": "error" },
}));
