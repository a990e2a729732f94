"""Stands in for the Python language host, which the engine starts and which cannot be built as a Go module.

It does what the real one does for a run and no more: it hands the program that Pulumi.yaml names to the SDK's own
executor, pulumi-language-python-exec, as a process of its own. Started as `language_host.py EXECUTOR ENGINE_ADDRESS`.
"""

import contextlib
import json
import os
import subprocess
import sys
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Runs Python programs for one engine."""

    def __init__(self, executor: str, engine: str) -> None:
        self._executor = executor
        self._engine = engine

    def GetPluginInfo(self, request: Any, context: Any) -> plugin_pb2.PluginInfo:  # noqa: N802
        return plugin_pb2.PluginInfo(version="0.0.0")

    def GetRequiredPackages(self, request: Any, context: Any) -> language_pb2.GetRequiredPackagesResponse:  # noqa: N802
        return language_pb2.GetRequiredPackagesResponse()

    def Run(self, request: Any, context: Any) -> language_pb2.RunResponse:  # noqa: N802
        arguments = {
            "monitor": request.monitor_address,
            "engine": self._engine,
            "project": request.project,
            "stack": request.stack,
            "organization": request.organization,
            "root_directory": request.info.root_directory,
            "pwd": request.info.program_directory,
            "dry_run": str(request.dryRun).lower(),
            "parallel": str(request.parallel),
        }
        flags = [part for name, value in arguments.items() for part in (f"--{name}", value)]
        done = subprocess.run(
            [sys.executable, self._executor, *flags, request.info.entry_point],
            env={
                **os.environ,
                "PULUMI_CONFIG": json.dumps(dict(request.config)),
                "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
            },
            stdout=sys.stderr,
            check=False,
        )
        # The executor has told the engine already what went wrong when it ends with one of these.
        return language_pb2.RunResponse(bail=done.returncode in (1, 32))

    def InstallDependencies(self, request: Any, context: Any) -> Any:  # noqa: N802
        return iter(())

    def Cancel(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: N802
        return empty_pb2.Empty()


def main() -> None:
    """Serve on a free port, say which, and wait to be ended by the engine."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    host = LanguageHost(sys.argv[1], sys.argv[-1])
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # noqa: T201 — this line is how the engine learns of it
    with contextlib.suppress(KeyboardInterrupt):  # how the engine ends its plugins
        server.wait_for_termination()


if __name__ == "__main__":
    main()
