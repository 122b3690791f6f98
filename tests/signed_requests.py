"""One signed message for every channel code, with whatever a stranger may put into its text, its name and its address.

The templates are the shortest bodies that each provider's recorded requests have in common; ID, WHO, NAME and TEXT stand
for what changes, and are written as the body's own encoding spells it, so that NULs, halves of surrogate pairs and bytes
that are no UTF-8 arrive as they would from a real sender.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from urllib.parse import quote_plus

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ingest.channels import email_ses, twilio, vonage, wechat
from ingest.channels.base import Webhook
from ingest.channels.webchat import issue_visitor_token
from ingest.errors import BadPayload

SECRET = "odd-secret"
BASIC = "odd:secret"
MAILBOX = "help@in.example.net"
MULTIPART = "multipart/form-data; boundary=xx"
FORM = "application/x-www-form-urlencoded"
TOPIC = "arn:aws:sns:eu-west-1:000000000000:inbound"

Spelling = Callable[[str | bytes], bytes]
Signing = Callable[[str, bytes, str], tuple[str, bytes, Mapping[str, str]]]


def in_json(value: str | bytes) -> bytes:
    """Return the text as it stands in a JSON string; bytes as they are."""
    return value if isinstance(value, bytes) else json.dumps(value)[1:-1].encode()


def in_inner_json(value: str | bytes) -> bytes:
    """Return the text as it stands in JSON that stands in a JSON string."""
    return value if isinstance(value, bytes) else in_json(json.dumps(value)[1:-1])


def in_form(value: str | bytes) -> bytes:
    """Return the text as it stands in a form."""
    return quote_plus(bare(value)).encode()


def bare(value: str | bytes) -> bytes:
    """Return the text as bare bytes: what is no UTF-8 is not made so."""
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Channel:
    """How to write to a channel of one code: its settings and secrets, the body's template, and what proves it."""

    template: str
    spell: Spelling
    sign: Signing
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    who: str = "447700{:06d}"

    def request(
        self, url: str, number: int, text: str | bytes, name: str | bytes, who: str | bytes = b""
    ) -> tuple[str, bytes, dict[str, str]]:
        """Return URL, body and headers of a message whose text begins with `odd-<number> `."""
        address = bare(self.who.format(number)) if not who else bare(who)
        words = (
            b"odd-%d " % number + self.spell(text) if isinstance(text, bytes) else self.spell(f"odd-{number} {text}")
        )
        # A mail's address and name stand in one field.
        values = {"ID": self.spell(f"{number:08d}"), "WHO": self.spell(who or address.decode()), "NAME": self.spell(name),
                  "TEXT": words, "NOW": str(int(time.time())).encode()}  # fmt: skip
        body = self.template.encode()
        for placeholder, value in values.items():
            body = body.replace(f"<{placeholder}>".encode(), value)
        url, body, headers = self.sign(url, body, self.content_type)
        return url, body, {"content-type": self.content_type, **headers}


def _hook(url: str, body: bytes, content_type: str) -> Webhook:
    return Webhook("POST", url, {"content-type": content_type}, body)


def _digest(algorithm: str, signed: bytes) -> bytes:
    return hmac.digest(SECRET.encode(), signed, algorithm)


def _with_header(name: str, proof: Callable[[bytes], str]) -> Signing:
    return lambda url, body, _kind: (url, body, {name: proof(body)})


def _twilio(url: str, body: bytes, kind: str) -> tuple[str, bytes, Mapping[str, str]]:
    signed = url.encode() + twilio._signed_body(_hook(url, body, kind))
    return url, body, {"x-twilio-signature": base64.b64encode(_digest("sha1", signed)).decode()}


def _vonage(url: str, body: bytes, kind: str) -> tuple[str, bytes, Mapping[str, str]]:
    signed = vonage.signed_text(vonage.sms_fields(_hook(url, body, kind)))
    return url, body + b"&sig=" + _digest("sha256", signed).hex().encode(), {}


def _messagebird(url: str, body: bytes, _kind: str) -> tuple[str, bytes, Mapping[str, str]]:
    stamp = str(int(time.time()))
    proof = base64.b64encode(_digest("sha256", f"{stamp}\n{url}\n".encode() + hashlib.sha256(body).digest())).decode()
    return url, body, {"messagebird-signature": proof, "messagebird-request-timestamp": stamp}


def _tiktok(url: str, body: bytes, _kind: str) -> tuple[str, bytes, Mapping[str, str]]:
    stamp = str(int(time.time()))
    return url, body, {"tiktok-signature": f"t={stamp},s={_digest('sha256', stamp.encode() + b'.' + body).hex()}"}


def _wechat(url: str, body: bytes, _kind: str) -> tuple[str, bytes, Mapping[str, str]]:
    stamp = str(int(time.time()))
    return f"{url}?timestamp={stamp}&nonce=n&signature={wechat.signature_of(SECRET, stamp, 'n')}", body, {}


def _mailgun(url: str, body: bytes, _kind: str) -> tuple[str, bytes, Mapping[str, str]]:
    stamp = str(int(time.time()))
    proof = _digest("sha256", f"{stamp}token".encode()).hex()
    return url, body + f"&timestamp={stamp}&token=token&signature={proof}".encode(), {}


@cache
def _amazon() -> tuple[rsa.RSAPrivateKey, str]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    since = datetime(2020, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, since, since + timedelta(days=36500))
    return key, made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _ses(url: str, body: bytes, kind: str) -> tuple[str, bytes, Mapping[str, str]]:
    told = _hook(url, body.replace(b"<WHEN>", datetime.now(UTC).isoformat().encode()), kind)
    try:
        signed = email_ses._string_to_sign(told.json())
    except BadPayload:
        # Amazon signs text. What is none cannot be proved.
        signed = b""
    proof = base64.b64encode(_amazon()[0].sign(signed, padding.PKCS1v15(), hashes.SHA256()))
    number = body.partition(b'"MessageId": "')[2].partition(b'"')[0].decode()
    named = {"x-amz-sns-message-type": "Notification", "x-amz-sns-message-id": number, "x-amz-sns-topic-arn": TOPIC}
    return url, told.body.replace(b"<PROOF>", proof), named


def _webchat(url: str, body: bytes, _kind: str) -> tuple[str, bytes, Mapping[str, str]]:
    sid = body.partition(b'"sid": "')[2].partition(b'"')[0].decode()
    token = issue_visitor_token("inbox", sid, datetime(2025, 1, 1, tzinfo=UTC), SECRET)
    return url, body, {"authorization": f"Bearer {token}"}


_META = {"secrets": {"app_secret": SECRET, "verify_token": "v"}}
_meta = _with_header("x-hub-signature-256", lambda body: f"sha256={_digest('sha256', body).hex()}")
_basic = _with_header("authorization", lambda _body: f"Basic {base64.b64encode(BASIC.encode()).decode()}")
_bearer = _with_header("authorization", lambda _body: f"Bearer {SECRET}")
_SMS_WHO = "+447700{:06d}"
_MAIL_WHO = "odd{}@example.org"

CHANNELS: Mapping[str, Channel] = {
    "whatsapp_cloud": Channel(
        '{"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": '
        '{"messaging_product": "whatsapp", "metadata": {"phone_number_id": "800100200300777"}, "contacts": '
        '[{"profile": {"name": "<NAME>"}, "wa_id": "<WHO>"}], "messages": [{"from": "<WHO>", "id": "wamid.<ID>", '
        '"timestamp": "<NOW>", "type": "text", "text": {"body": "<TEXT>"}}]}}]}]}',
        in_json, _meta, {"phone_number_id": "800100200300777"}, **_META,
    ),
    "messenger": Channel(
        '{"object": "page", "entry": [{"id": "500600700800777", "time": <NOW>000, "messaging": [{"sender": {"id": "<WHO>"}, '
        '"recipient": {"id": "500600700800777"}, "timestamp": <NOW>000, "message": {"mid": "m_<ID>", "text": "<TEXT>"}}]}]}',
        in_json, _meta, {"page_id": "500600700800777"}, **_META,
    ),
    "instagram": Channel(
        '{"object": "instagram", "entry": [{"id": "17841400000000777", "time": <NOW>000, "messaging": [{"sender": '
        '{"id": "<WHO>"}, "recipient": {"id": "17841400000000777"}, "timestamp": <NOW>000, "message": {"mid": "i_<ID>", '
        '"text": "<TEXT>"}}]}]}',
        in_json, _meta, {"account_id": "17841400000000777"}, **_META,
    ),
    "telegram": Channel(
        '{"update_id": 1, "message": {"message_id": "<ID>", "from": {"id": "<WHO>", "first_name": "<NAME>"}, "chat": '
        '{"id": "<WHO>", "type": "private"}, "date": <NOW>, "text": "<TEXT>"}}',
        in_json, _with_header("x-telegram-bot-api-secret-token", lambda _body: SECRET), {}, {"secret_token": SECRET},
    ),
    "twilio_sms": Channel(
        "Body=<TEXT>&From=<WHO>&MessageSid=SM<ID>&NumMedia=0&SmsStatus=received&To=%2B15550777&FromCity=<NAME>",
        in_form, _twilio, {"number": "+15550777"}, {"auth_token": SECRET}, FORM, _SMS_WHO,
    ),
    "twilio_whatsapp": Channel(
        "Body=<TEXT>&From=whatsapp%3A<WHO>&ProfileName=<NAME>&MessageSid=SM<ID>&NumMedia=0&SmsStatus=received&"
        "MessageType=text&To=whatsapp%3A%2B447700900777",
        in_form, _twilio, {"number": "+447700900777"}, {"auth_token": SECRET}, FORM, _SMS_WHO,
    ),
    "vonage_sms": Channel(
        "msisdn=<WHO>&to=447700900777&messageId=0A<ID>&text=<TEXT>&type=unicode&keyword=<NAME>&timestamp=<NOW>",
        in_form, _vonage, {"number": "447700900777", "signature_method": "sha256"}, {"signature_secret": SECRET}, FORM,
    ),
    "messagebird_sms": Channel(
        "id=fake<ID>&originator=<WHO>&recipient=447700900777&body=<TEXT>&reference=<NAME>",
        in_form, _messagebird, {"account": "447700900777"}, {"signing_key": SECRET}, FORM,
    ),
    "line": Channel(
        '{"destination": "Ub07", "events": [{"type": "message", "mode": "active", "timestamp": <NOW>000, "source": '
        '{"type": "user", "userId": "U<WHO>"}, "message": {"type": "text", "id": "<ID>", "text": "<TEXT>"}}]}',
        in_json, _with_header("x-line-signature", lambda body: base64.b64encode(_digest("sha256", body)).decode()),
        {"bot_user_id": "Ub07"}, {"channel_secret": SECRET},
    ),
    "viber": Channel(
        '{"event": "message", "timestamp": <NOW>000, "message_token": "<ID>", "sender": {"id": "<WHO>", "name": "<NAME>"}, '
        '"message": {"type": "text", "text": "<TEXT>"}}',
        in_json, _with_header("x-viber-content-signature", lambda body: _digest("sha256", body).hex()),
        {}, {"auth_token": SECRET},
    ),
    "wechat": Channel(
        "<xml><ToUserName>gh_fake777</ToUserName><FromUserName><![CDATA[o<WHO>]]></FromUserName><CreateTime><NOW>"
        "</CreateTime><MsgType>text</MsgType><Content><![CDATA[<TEXT>]]></Content><MsgId><ID></MsgId></xml>",
        bare, _wechat, {"original_id": "gh_fake777"}, {"token": SECRET}, "text/xml",
    ),
    "tiktok": Channel(
        '{"client_key": "k", "event": "im_receive_msg", "create_time": <NOW>, "user_openid": "biz-777", "content": '
        '"{\\"type\\": \\"text\\", \\"message_id\\": \\"tt-<ID>\\", \\"conversation_id\\": \\"c\\", \\"timestamp\\": <NOW>000, '
        '\\"from\\": \\"<NAME>\\", \\"from_user\\": {\\"id\\": \\"u-<WHO>\\", \\"role\\": \\"personal_account\\"}, '
        '\\"to_user\\": {\\"id\\": \\"biz-777\\", \\"role\\": \\"business_account\\"}, \\"unique_identifier\\": \\"<WHO>\\", '
        '\\"text\\": {\\"body\\": \\"<TEXT>\\"}}"}',
        in_inner_json, _tiktok, {"business_id": "biz-777"}, {"client_secret": SECRET},
    ),
    "email_mailgun": Channel(
        "recipient=help%40in.example.net&sender=<WHO>&from=<NAME>+%3C<WHO>%3E&subject=Hi&body-plain=<TEXT>&"
        "stripped-text=<TEXT>&Message-Id=%3Cmg-<ID>%40example.org%3E",
        in_form, _mailgun, {"mailbox": MAILBOX}, {"signing_key": SECRET}, FORM, _MAIL_WHO,
    ),
    "email_sendgrid": Channel(
        '--xx\r\nContent-Disposition: form-data; name="headers"\r\n\r\n'
        "From: <NAME> <<WHO>>\nMessage-ID: <sg-<ID>@example.org>\n\r\n"
        '--xx\r\nContent-Disposition: form-data; name="envelope"\r\n\r\n'
        '{"to": ["help@in.example.net"], "from": "x@example.org"}\r\n'
        '--xx\r\nContent-Disposition: form-data; name="text"\r\n\r\n<TEXT>\r\n--xx--\r\n',
        bare, _basic, {"mailbox": MAILBOX}, {"basic_auth": BASIC}, MULTIPART, _MAIL_WHO,
    ),
    "email_postmark": Channel(
        '{"FromFull": {"Email": "<WHO>", "Name": "<NAME>"}, "From": "<WHO>", "ToFull": [{"Email": "help@in.example.net"}], '
        '"OriginalRecipient": "help@in.example.net", "Subject": "Hi", "MessageID": "pm-<ID>", "TextBody": "<TEXT>", '
        '"Headers": [{"Name": "Message-ID", "Value": "<pm-<ID>@example.org>"}]}',
        in_json, _basic, {"mailbox": MAILBOX}, {"basic_auth": BASIC}, who=_MAIL_WHO,
    ),
    "email_ses": Channel(
        '{"Type": "Notification", "MessageId": "<ID>", "TopicArn": "' + TOPIC + '", "Timestamp": "<WHEN>", '
        '"SignatureVersion": "2", "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-a.pem", '
        '"Signature": "<PROOF>", "Message": "{\\"notificationType\\": \\"Received\\", \\"mail\\": {\\"messageId\\": '
        '\\"ses<ID>\\", \\"source\\": \\"<WHO>\\", \\"destination\\": [\\"help@in.example.net\\"], \\"commonHeaders\\": '
        '{\\"from\\": [\\"<NAME> <<WHO>>\\"], \\"to\\": [\\"help@in.example.net\\"]}}, \\"receipt\\": {\\"recipients\\": '
        '[\\"help@in.example.net\\"], \\"action\\": {\\"type\\": \\"SNS\\", \\"encoding\\": \\"UTF-8\\"}}, \\"content\\": '
        '\\"From: <NAME> <<WHO>>\\\\r\\\\nMessage-ID: <s-<ID>@example.org>\\\\r\\\\n\\\\r\\\\n<TEXT>\\"}"}',
        in_inner_json, _ses, {"mailbox": MAILBOX, "topic_arn": TOPIC}, {"signing_certificate": ""}, "text/plain", _MAIL_WHO,
    ),
    "email_mime": Channel(
        "From: <NAME> <<WHO>>\r\nTo: help@in.example.net\r\nMessage-ID: <mm-<ID>@example.org>\r\nSubject: Hi\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<TEXT>\r\n",
        bare, _bearer, {"mailbox": MAILBOX}, {"token": SECRET}, "message/rfc822", _MAIL_WHO,
    ),
    "webchat": Channel(
        '{"v": 1, "sid": "s_<ID>", "identity": {"user_id": "u<WHO>", "name": "<NAME>"}, "events": [{"id": "<ID>", '
        '"type": "message", "at": <NOW>000, "message": {"text": "<TEXT>"}}]}',
        in_json, _webchat, {"inbox_key": "inbox"}, {"session_key": SECRET},
    ),
    "custom": Channel(
        '{"v": 1, "events": [{"id": "<ID>", "type": "message", "at": <NOW>000, "contact": {"key": "<WHO>", "name": "<NAME>"}, '
        '"message": {"text": "<TEXT>"}}]}',
        in_json, _bearer, {}, {"token": SECRET},
    ),
}  # fmt: skip


def secrets_of(code: str) -> dict[str, tuple[str, ...]]:
    """Return the secrets that a channel of this code is to have."""
    given = CHANNELS[code].secrets
    return {name: (_amazon()[1] if name == "signing_certificate" else value,) for name, value in given.items()}
