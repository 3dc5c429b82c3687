// Ready-made calls, as text. Those for CI read the URL from a secret of the CI system, so they contain no token.

const EVERY_WORKDAY = "0 6 * * 1-5";

export const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const SAMPLES = {
  text: "text", integer: 1, number: 1.5, boolean: true, date: "2026-01-31", datetime: "2026-01-31T06:00:00Z",
  list: ["item"], json: {},
};

const sample = (block) => (block.type === "choice" ? block.choices[0] : SAMPLES[block.type]);

// A value for every block that has a default or requires a value. A secret one is only named, and only if it is
// required.
export function sampleParameters(blocks) {
  const wanted = blocks.filter((block) => (block.secret ? block.required : block.default !== null || block.required));
  const value = (block) => (block.default === null || block.secret ? sample(block) : block.default);
  return Object.fromEntries(wanted.map((block) => [block.name, value(block)]));
}

// curl reads the token from standard input, as a header: process lists show an argument, and the logs of every server
// on the way show a URL.
const HEADER = "printf 'header = \"Authorization: Bearer %s\"\\n'";
const CURL = "curl -sS --fail-with-body -K";

function call(token, options, address, lines, indent = "") {
  return [`${HEADER} ${token} | ${CURL} - ${options} ${address}`, ...lines].join(` \\\n${indent}  `);
}

function content(body, key) {
  const lines = key ? [`-H "Idempotency-Key: ${key}"`] : [];
  return body ? [...lines, "-H 'Content-Type: application/json'", `-d ${shellQuoted(body)}`] : lines;
}

function parts(url) {
  const { origin, pathname, searchParams } = new URL(url);
  return { address: shellQuoted(origin + pathname), token: shellQuoted(searchParams.get("token")) };
}

const bodyOf = (parameters) => (Object.keys(parameters).length ? JSON.stringify(parameters) : "");

export function curlPost(url, parameters) {
  const { address, token } = parts(url);
  return call(token, "-X POST", address, content(bodyOf(parameters)));
}

export function curlGet(url, parameters) {
  const { address, token } = parts(url);
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const pairs = Object.entries(parameters).flatMap(([name, value]) =>
    (Array.isArray(value) ? value.map((item) => [name, text(item)]) : [[name, text(value)]]));
  const lines = pairs.map(([name, value]) => `--data-urlencode ${shellQuoted(`${name}=${value}`)}`);
  return call(token, "-G", address, lines);
}

// A call whose URL is in the variable WEBHOOK_URL, the form in which CI systems provide a secret.
const callFromSecret = (body, key, indent) =>
  call('"${WEBHOOK_URL##*token=}"', "--retry 3 -X POST", '"${WEBHOOK_URL%%\\?*}"', content(body, key), indent);

// GitHub interprets `${{`, even within quotes.
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
          ${callFromSecret(body, key, "          ")}
`;
}

export function gitlabCi(workflow, parameters) {
  return `start-${workflow.kind}-${workflow.id}:
  image: curlimages/curl:latest
  variables:
    GIT_STRATEGY: none
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule"
    - when: manual
  script:
    - |
      ${callFromSecret(bodyOf(parameters), "$CI_JOB_ID", "      ")}
`;
}

// The body is a template for Airflow, so the start of an expression is written as an escape.
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

// The token is in a file that only its owner can read. In a crontab an unescaped percent sign ends the command.
export function cron(workflow, parameters, url) {
  const { address } = parts(url);
  const file = `.webhook-${workflow.kind}-${workflow.id}`;
  const lines = content(bodyOf(parameters), "$(date +%Y-%m-%dT%H:%M)");
  const command = [`${CURL} "$HOME/${file}" --retry 3 -o /dev/null -X POST ${address}`, ...lines].join(" ");
  return `# Once, in a shell, for the token, which is what follows token= in the URL:
#   (umask 077; read -r token; ${HEADER} "$token" > ~/${file})
${EVERY_WORKDAY} ${command.replaceAll("%", "\\%")}
`;
}
