"""Serves the stand-ins on loopback and tells the engine where they are."""

from collections.abc import Generator
from concurrent import futures
from contextlib import contextmanager

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

MAX_MESSAGE_BYTES = 400 * 1024 * 1024
"""Pulumi's own limit for messages between engine and provider."""


@contextmanager
def serving(provider: provider_pb2_grpc.ResourceProviderServicer) -> Generator[int]:
    """Serve a provider on a free loopback port, which is yielded, until the block ends."""
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=16),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ],
    )
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()
