"""aiosmtpd with STARTTLS and a login, as a foreign server for `mail`.

Usage: mail_server.py CERTIFICATE KEY DIRECTORY. Requires the same certificate from its clients, serves on a free port
that it prints first, rejects recipients that begin with no, defers those that begin with later, and writes each mail
to a file in DIRECTORY.
"""
import asyncio
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("no"):
            return "550 5.1.1 nobody here"
        if address.startswith("later"):
            return "451 4.7.1 greylisted"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):
        with open(os.path.join(sys.argv[3], "mail.eml"), "wb") as file:
            file.write(envelope.content)
        return "250 2.0.0 queued"


def authenticate(server, session, envelope, mechanism, data):
    known = (data.login, data.password) == (b"tim", b"sesame")
    return AuthResult(success=known, handled=known)


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    context.load_verify_locations(sys.argv[1])
    context.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.get_running_loop()

    def protocol():
        return SMTP(
            Handler(), hostname="localhost", tls_context=context, require_starttls=True, authenticator=authenticate,
            auth_required=True, auth_require_tls=True, enable_SMTPUTF8=True, loop=loop,
        )

    # aiosmtpd's own controller asks the port it was given whether it answers, which port 0 cannot.
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
