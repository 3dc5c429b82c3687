"""Signs calls as their senders do.

Where a sender has a package for it, that package signs; elsewhere, the sender's documented rule does. Reads a list of
calls from standard input, and writes the headers of each.
"""

import base64
import datetime
import hashlib
import hmac
import json
import sys
import time
import urllib.parse

import slack_sdk.signature
import standardwebhooks.webhooks
import stripe
import svix.webhooks
import twilio.request_validator


def mac(secret, text, digest=hashlib.sha256):
    return hmac.new(secret.encode(), text, digest)


def base64_of(code):
    return base64.b64encode(code.digest()).decode()


def now():
    return datetime.datetime.now(tz=datetime.timezone.utc)


def github(secret, url, body, id):
    return {"X-GitHub-Event": "push", "X-GitHub-Delivery": id, "X-Hub-Signature-256": "sha256=" + mac(secret, body).hexdigest()}


def gitlab(secret, url, body, id):
    signer = standardwebhooks.webhooks.Webhook(secret)
    at = now()
    return {
        "Idempotency-Key": id,
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signer.sign(id, at, body.decode()),
    }


def gitlab_token(secret, url, body, id):
    return {"X-Gitlab-Token": secret}


def stripe_(secret, url, body, id):
    at = int(time.time())
    signature = stripe.WebhookSignature._compute_signature(f"{at}.{body.decode()}", secret)
    header = f"t={at},v1={'0' * 64},v1={signature},v0=00"
    stripe.Webhook.construct_event(body, header, secret)
    return {"Stripe-Signature": header}


def slack(secret, url, body, id):
    at = str(int(time.time()))
    signature = slack_sdk.signature.SignatureVerifier(secret).generate_signature(timestamp=at, body=body)
    return {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": signature}


def shopify(secret, url, body, id):
    return {"X-Shopify-Webhook-Id": id, "X-Shopify-Hmac-Sha256": base64_of(mac(secret, body))}


def twilio_(secret, url, body, id):
    fields = dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))
    signature = twilio.request_validator.RequestValidator(secret).compute_signature(url, fields)
    return {"I-Twilio-Idempotency-Token": id, "X-Twilio-Signature": signature}


def linear(secret, url, body, id):
    return {"Linear-Delivery": id, "Linear-Signature": mac(secret, body).hexdigest()}


def sentry(secret, url, body, id):
    return {"Request-ID": id, "Sentry-Hook-Resource": "event_alert", "Sentry-Hook-Signature": mac(secret, body).hexdigest()}


def trello(secret, url, body, id):
    return {"X-Trello-Webhook": base64_of(mac(secret, body + url.encode(), hashlib.sha1))}


def meta(secret, url, body, id):
    return {"X-Hub-Signature-256": "sha256=" + mac(secret, body).hexdigest()}


def grafana(secret, url, body, id):
    at = str(int(time.time()))
    signature = mac(secret, at.encode() + b":" + body).hexdigest()
    return {"X-Grafana-Alerting-Timestamp": at, "X-Grafana-Alerting-Signature": signature}


def dbt_cloud(secret, url, body, id):
    return {"Authorization": mac(secret, body).hexdigest()}


def snowflake(secret, url, body, id):
    """As the procedure of the recipe does."""
    at = str(int(time.time()))
    return {"X-Timestamp": at, "X-Signature": mac(secret, at.encode() + b"." + body).hexdigest()}


def nothing(secret, url, body, id):
    return {}


def standard_webhooks(secret, url, body, id):
    headers = gitlab(secret, url, body, id)
    del headers["Idempotency-Key"]
    standardwebhooks.webhooks.Webhook(secret).verify(body.decode(), headers)
    return headers


def svix_(secret, url, body, id):
    at = now()
    signature = svix.webhooks.Webhook(secret).sign(id, at, body.decode())
    return {"svix-id": id, "svix-timestamp": str(int(at.timestamp())), "svix-signature": signature}


SENDERS = {
    "github": github,
    "gitlab": gitlab,
    "gitlab-token": gitlab_token,
    "stripe": stripe_,
    "slack": slack,
    "shopify": shopify,
    "twilio": twilio_,
    "linear": linear,
    "sentry": sentry,
    "trello": trello,
    "meta": meta,
    "microsoft-graph": nothing,
    "grafana": grafana,
    "alertmanager": nothing,
    "dbt-cloud": dbt_cloud,
    "airbyte": nothing,
    "snowflake": snowflake,
    "bigquery": nothing,
    "azure-event-grid": nothing,
    "standard-webhooks": standard_webhooks,
    "svix": svix_,
}

calls = json.load(sys.stdin)
signed = [
    SENDERS[call["sender"]](call["secret"], call["url"], call["body"].encode(), call["id"]) for call in calls
]
json.dump(signed, sys.stdout)
