"""One bootstrap server, asked as a client would, to learn why it lets nobody in.

kafka-python logs what TLS says and forgets it, and of a refused password it only knows that the
socket was closed. So the first steps of a connection are taken here once, by themselves: connect,
TLS, the versions, SASL, one question. All of it blocks, and none of it outlasts its deadline.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError, for_code
from kafka.net.sasl import get_sasl_mechanism
from kafka.net.transport import KafkaSSLTransport
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

PORT = 9092
UNSUPPORTED_MECHANISM = 33
ILLEGAL_SASL_STATE = 34
TLS_ALERT = b"\x15\x03"
"""How an answer begins that speaks TLS: an alert, which is what a plain question gets."""


class AwayError(Exception):
    """The server can't be reached, or does not answer: it may, later."""


class RefusedError(Exception):
    """The server answers, and can't be used as configured. The message says what to mend."""


def shake_hands(server: str, options: Mapping[str, Any], seconds: float) -> None:
    """Connect to one server and ask it something; return if it answers.

    Args:
        server: ``host:port``.
        options: those of ``[kafka]``.
        seconds: for all of it; only a slow name server can make it longer.

    Raises:
        AwayError, RefusedError: it can't be used.
    """
    deadline = time.monotonic() + seconds
    host, port = _address(server)
    options = {**KafkaConsumer.DEFAULT_CONFIG, **options}
    protocol = str(options["security_protocol"])
    try:
        with _connected(host, port, seconds) as plain, _secured(plain, host, options) as connection:
            talk = _Talk(connection, deadline, protocol)
            talk.ask(ApiVersionsRequest(version=0))
            if protocol.startswith("SASL"):
                _log_in(talk, host, options)
            talk.ask(MetadataRequest(version=1, topics=[]))
    except TimeoutError as error:
        raise AwayError(f"no answer within {seconds:g} s") from error
    except ssl.SSLError as error:
        raise RefusedError(_of_tls(error)) from error
    except OSError as error:
        raise AwayError(f"the connection broke ({error.strerror or error})") from error


def _address(server: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    if not colon or not port.isdecimal():
        host, port = server, str(PORT)
    return host.strip("[]"), int(port)


def _connected(host: str, port: int, seconds: float) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=seconds)
    except socket.gaierror as error:
        raise AwayError(f"the name {host} does not resolve ({error.strerror})") from error
    except ConnectionRefusedError as error:
        raise AwayError("nothing listens there (connection refused)") from error


def _secured(plain: socket.socket, host: str, options: Mapping[str, Any]) -> socket.socket:
    if not str(options["security_protocol"]).endswith("SSL"):
        return plain
    given = {name: options.get(name) for name in KafkaSSLTransport.DEFAULT_CONFIG}
    context = KafkaSSLTransport._build_ssl_context(given)
    return context.wrap_socket(plain, server_hostname=host.rstrip("."))


def _of_tls(error: ssl.SSLError) -> str:
    """What an error of TLS means for the configuration."""
    text = str(error).lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        if "self-signed" in why or "issuer" in why:
            return f"its certificate is not trusted ({why}): ssl_cafile must hold the authority's"
        if "mismatch" in why:
            return f"its certificate is for another host ({why})"
        return f"its certificate is not valid ({why})"
    if "wrong_version_number" in text or "record_layer_failure" in text or "eof" in text:
        return "it does not speak TLS at that port: another port, or another security_protocol"
    if "certificate" in text:
        return f"it refuses our certificate: mend ssl_certfile and ssl_keyfile ({error.reason})"
    return f"TLS fails: {error.reason or error}"


class _Talk:
    """Requests and answers, one after another."""

    def __init__(self, connection: socket.socket, deadline: float, protocol: str) -> None:
        self._connection = connection
        self._deadline = deadline
        self._protocol = protocol
        self._parser = KafkaProtocol(client_id="pipeline")

    def ask(self, request: Any) -> Any:
        """Send a request, return its answer.

        Raises:
            RefusedError: the server closes the connection, or answers in another protocol.
        """
        self._parser.send_request(request)
        first = True
        try:
            self._wait()
            self._connection.sendall(self._parser.send_bytes())
            while True:
                self._wait()
                received = self._connection.recv(64 * 1024)
                if first and received.startswith(TLS_ALERT):
                    raise RefusedError(
                        f"it speaks TLS at that port: security_protocol {self._protocol} does not"
                    )
                first = False
                if not received:
                    raise RefusedError(self._of_a_closed_connection())
                for _, response in self._parser.receive_bytes(received):
                    return response
        except ConnectionError as error:
            raise RefusedError(self._of_a_closed_connection()) from error
        except KafkaError as error:
            raise RefusedError(
                f"what answers at that port is no Kafka for {self._protocol}"
            ) from error

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)

    def _of_a_closed_connection(self) -> str:
        return (
            f"it closes the connection: the port is not one for {self._protocol}, so another port "
            "or another security_protocol is wanted"
        )


def _log_in(talk: _Talk, host: str, options: Mapping[str, Any]) -> None:
    """Authenticate by SASL.

    Raises:
        RefusedError: the mechanism, the user or the password is refused.
    """
    name = options["sasl_mechanism"]
    offered = talk.ask(SaslHandshakeRequest(version=1, mechanism=name))
    if offered.error_code == ILLEGAL_SASL_STATE:
        raise RefusedError(
            "it takes no user and password at that port: another port, or a security_protocol "
            "without SASL_"
        )
    if offered.error_code == UNSUPPORTED_MECHANISM:
        takes = ", ".join(sorted(offered.mechanisms)) or "none"
        raise RefusedError(f"it does not take sasl_mechanism {name} (it takes {takes})")
    try:
        mechanism = get_sasl_mechanism(name)(host=host, **options)
        while not mechanism.is_done():
            request = SaslAuthenticateRequest(version=1, auth_bytes=mechanism.auth_bytes())
            answer = talk.ask(request)
            if answer.error_code:
                raise RefusedError(_of_a_login(answer, options))
            mechanism.receive(answer.auth_bytes)
    except RefusedError:
        raise
    except Exception as error:  # mechanisms raise what they like, Kerberos's library among them
        raise RefusedError(f"sasl_mechanism {name} fails: {type(error).__name__}") from error
    if not mechanism.is_authenticated():
        raise RefusedError(f"sasl_mechanism {name}: user or password are refused")


def _of_a_login(answer: Any, options: Mapping[str, Any]) -> str:
    user = options.get("sasl_plain_username")
    of = f" of {user}" if user else ""
    told = " ".join(str(answer.error_message or for_code(answer.error_code).__name__).split())
    return f"user or password{of} are refused, sasl_mechanism {options['sasl_mechanism']} ({told})"
