"""Starts a run, waits for its end and fails when the run fails.

The HTTP connection `webhook` has the server's address, and the webhook's token as its password.
"""

import datetime

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG

HEADERS = {
    "Authorization": "Bearer {{ conn.webhook.password }}",
    "Content-Type": "application/json",
}


def has_ended(response):
    """Whether the run has ended; an end without success fails the task."""
    run = response.json()
    if run["state"] in ("queued", "running"):
        return False
    if run["state"] != "succeeded":
        raise RuntimeError(f"the run {run['id']} is {run['state']}: {run['error']}")
    return True


with DAG(
    "daily_sales",
    schedule="15 6 * * 1-5",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    catchup=False,
):
    start = HttpOperator(
        task_id="start",
        http_conn_id="webhook",
        endpoint="api/v1/report/daily-sales/webhook",
        method="POST",
        # A task that is tried again does not start the work twice.
        headers={**HEADERS, "Idempotency-Key": "{{ run_id }}"},
        data='{"region": "EMEA"}',
        response_filter=lambda response: response.json()["run_id"],
    )
    wait = HttpSensor(
        task_id="wait",
        http_conn_id="webhook",
        endpoint="api/v1/report/daily-sales/runs/{{ ti.xcom_pull(task_ids='start') }}",
        headers=HEADERS,
        response_check=has_ended,
        poke_interval=10,
        timeout=1800,
        mode="reschedule",
    )
    start >> wait
