"""Python's own email package reads back what was composed: `FILE` in, a summary as JSON out."""
import email
import email.policy
import json
import sys

with open(sys.argv[1], "rb") as file:
    message = email.message_from_binary_file(file, policy=email.policy.default)
print(json.dumps({
    "subject": message["subject"],
    "from": [[address.display_name, address.addr_spec] for address in message["from"].addresses],
    "to": [[address.display_name, address.addr_spec] for address in message["to"].addresses],
    "headers": [name.lower() for name in message.keys()],
    "text": message.get_body(("plain",)).get_content(),
    "html": message.get_body(("html",)).get_content() if message.get_body(("html",)) else None,
    "attachments": [[part.get_filename(), part.get_content_type(), len(part.get_content())] for part in message.iter_attachments()],
    "cids": [part["content-id"] for part in message.walk() if part["content-id"]],
    "defects": [str(defect) for part in message.walk() for defect in part.defects],
}))
