"""AWS Lambda."""

import io
import json
import zipfile
from typing import Any, ClassVar

from sandbox.providers.aws.handler import Handler, TagApi, absent, pascal, without
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties, archive_files, same

CONFIGURATION = ("runtime", "handler", "role", "description", "memorySize", "timeout", "environment")


class Function(Handler):
    """aws:lambda/function:Function with code from an archive of single files; the id is the name."""

    type = "aws:lambda/function:Function"
    supported = frozenset({"name", "code", "architectures", *CONFIGURATION})
    service = "lambda"
    defaults: ClassVar[Properties] = {"memorySize": 128, "timeout": 3, "architectures": ["x86_64"]}
    replace_on = frozenset({"name"})
    computed = ("arn", "invokeArn", "lastModified", "codeSha256", "version")
    name = "name"
    tag_api = TagApi(service="lambda", target="Resource", list_call="list_tags", form="map")

    def create(self, inputs: Properties) -> str:
        self.client.create_function(
            FunctionName=inputs["name"],
            Code={"ZipFile": _zip(inputs["code"])},
            **pascal({key: inputs[key] for key in ("architectures",) if key in inputs}),
            **_configuration(inputs),
        )
        return inputs["name"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(lambda: self.client.get_function(FunctionName=id), "ResourceNotFoundException")
        if answer is None:
            return None
        function = answer["Configuration"]
        arn = function["FunctionArn"]
        variables = function.get("Environment", {}).get("Variables")
        return {
            "arn": arn,
            "invokeArn": f"arn:aws:apigateway:{self.aws.region}:lambda:path/2015-03-31/functions/{arn}/invocations",
            "lastModified": function["LastModified"],
            "codeSha256": function["CodeSha256"],
            "version": function["Version"],
            "name": id,
            **{key: function.get(key[0].upper() + key[1:]) for key in CONFIGURATION},
            "environment": {"variables": variables} if variables else None,
            "architectures": function.get("Architectures"),
            "code": inputs.get("code"),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        client = self.client
        if not same(old.get("code"), new.get("code")) or old.get("architectures") != new.get("architectures"):
            client.update_function_code(
                FunctionName=id, ZipFile=_zip(new["code"]), Architectures=new.get("architectures", ["x86_64"])
            )
        client.update_function_configuration(
            FunctionName=id, **_configuration({**self.defaults, "description": "", **new})
        )

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_function(FunctionName=id)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["name"])


class Permission(Handler):
    """aws:lambda/permission:Permission; the id is the statement's."""

    type = "aws:lambda/permission:Permission"
    supported = frozenset({"action", "function", "principal", "sourceArn", "sourceAccount", "statementId"})
    service = "lambda"
    replace_on = frozenset({"action", "function", "principal", "sourceArn", "sourceAccount", "statementId"})
    name = "statementId"

    def create(self, inputs: Properties) -> str:
        self.client.add_permission(FunctionName=inputs["function"], **pascal(without(inputs, "function")))
        return inputs["statementId"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        if not inputs:
            raise ProviderError(f"the stand-in cannot import the permission {id}: its id does not name the function")
        answer = absent(lambda: self.client.get_policy(FunctionName=inputs["function"]), "ResourceNotFoundException")
        statements: list[dict[str, Any]] = json.loads(answer["Policy"])["Statement"] if answer else []
        for statement in statements:
            if statement["Sid"] == id:
                return {
                    **inputs,
                    "statementId": id,
                    "action": statement["Action"],
                    "principal": statement["Principal"]["Service"],
                }
        return None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        raise AssertionError("every property of a permission is in replace_on")

    def delete(self, id: str, state: Properties) -> None:
        self.client.remove_permission(FunctionName=state["function"], StatementId=id)

    def find(self, inputs: Properties) -> str | None:
        return inputs["statementId"] if self.read(inputs["statementId"], inputs) else None


def _configuration(inputs: Properties) -> dict[str, Any]:
    configuration = pascal({key: inputs[key] for key in CONFIGURATION if key in inputs})
    if "environment" in inputs:
        configuration["Environment"] = pascal(inputs["environment"])
    return configuration


def _zip(archive: Properties) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in sorted(archive_files(archive).items()):
            file.writestr(zipfile.ZipInfo(name), content)  # without the time, so that equal code has an equal hash
    return buffer.getvalue()
