// Ready-made calls, as text. Those for CI read the URL from a secret of the CI system and so contain no token.

const EVERY_WORKDAY = "0 6 * * 1-5";

export const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const SAMPLES = {
  text: "text", integer: 1, number: 1.5, boolean: true, date: "2026-01-31", datetime: "2026-01-31T06:00:00Z",
  list: ["item"], json: {},
};

const sample = (block) => (block.type === "choice" ? block.choices[0] : SAMPLES[block.type]);

// A value for every block that has a default or needs a value. A secret one is only named when it is needed.
export function sampleParameters(blocks) {
  const wanted = blocks.filter((block) => (block.secret ? block.required : block.default !== null || block.required));
  const value = (block) => (block.default === null || block.secret ? sample(block) : block.default);
  return Object.fromEntries(wanted.map((block) => [block.name, value(block)]));
}

const POST = "curl -sS --fail-with-body";

function post(url, body, { options = "", key, indent = "" } = {}) {
  const lines = [`${POST}${options} -X POST ${url}`];
  if (key) lines.push(`-H "Idempotency-Key: ${key}"`);
  if (body) lines.push("-H 'Content-Type: application/json'", `-d ${shellQuoted(body)}`);
  return lines.join(` \\\n${indent}  `);
}

const bodyOf = (parameters) => (Object.keys(parameters).length ? JSON.stringify(parameters) : "");

export const curlPost = (url, parameters) => post(shellQuoted(url), bodyOf(parameters));

export function curlGet(url, parameters) {
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const pairs = Object.entries(parameters).flatMap(([name, value]) =>
    (Array.isArray(value) ? value.map((item) => [name, text(item)]) : [[name, text(value)]]));
  const lines = pairs.map(([name, value]) => `--data-urlencode ${shellQuoted(`${name}=${value}`)}`);
  return [`${POST}${lines.length ? " -G" : ""} ${shellQuoted(url)}`, ...lines].join(" \\\n  ");
}

// GitHub reads `${{` as its own, also inside quotes.
export function githubActions(workflow, parameters) {
  const body = bodyOf(parameters).replaceAll("${{", "\\u0024{{");
  const key = "$GITHUB_RUN_ID-$GITHUB_RUN_ATTEMPT";
  return `name: Start ${workflow.kind} ${workflow.id}
on:
  workflow_dispatch:
  schedule:
    - cron: "${EVERY_WORKDAY}"
permissions: {}
jobs:
  start:
    runs-on: ubuntu-latest
    steps:
      - name: Call the webhook
        env:
          WEBHOOK_URL: \${{ secrets.WEBHOOK_URL }}
        run: |
          ${post('"$WEBHOOK_URL"', body, { options: " --retry 3", key, indent: "          " })}
`;
}

export function gitlabCi(workflow, parameters) {
  const options = { options: " --retry 3", key: "$CI_JOB_ID", indent: "      " };
  return `start-${workflow.kind}-${workflow.id}:
  image: curlimages/curl:latest
  variables:
    GIT_STRATEGY: none
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule"
    - when: manual
  script:
    - |
      ${post('"$WEBHOOK_URL"', bodyOf(parameters), options)}
`;
}

// The body is a template for Airflow, so what would begin an expression is written as an escape.
export function airflow(workflow, parameters, url) {
  const name = `start_${workflow.kind}_${workflow.id}`.replace(/[^A-Za-z0-9]/g, "_").toLowerCase();
  const body = (bodyOf(parameters) || "{}").replace(/\{(?=[{%#])/g, "\\u007b");
  const { origin, pathname } = new URL(url);
  return `"""Starts ${workflow.kind}/${workflow.id} every workday.

The connection keeps the token, so that this file does not:
airflow connections add webhook --conn-type http --conn-host ${origin} --conn-password "$WEBHOOK_TOKEN"
"""

from datetime import datetime

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import dag  # Airflow 2: from airflow.decorators import dag


@dag(schedule="${EVERY_WORKDAY}", start_date=datetime(2026, 1, 1), catchup=False)
def ${name}():
    HttpOperator(
        task_id="call_webhook",
        http_conn_id="webhook",
        method="POST",
        endpoint=${JSON.stringify(pathname.slice(1))},
        headers={
            "Authorization": "Bearer {{ conn.webhook.password }}",
            "Content-Type": "application/json",
            "Idempotency-Key": "{{ run_id }}",
        },
        data=${JSON.stringify(body)},
    )


${name}()
`;
}

// In a crontab a percent sign ends the command unless it is escaped.
export function cron(url, parameters) {
  const key = "$(date +%Y-%m-%dT%H:%M)";
  const command = post('"$WEBHOOK_URL"', bodyOf(parameters), { options: " --retry 3 -o /dev/null", key });
  return `WEBHOOK_URL=${url}\n${EVERY_WORKDAY} ${command.replaceAll(" \\\n  ", " ").replaceAll("%", "\\%")}\n`;
}
