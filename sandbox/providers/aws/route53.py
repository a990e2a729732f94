"""Amazon Route 53."""

from sandbox.providers.aws.handler import Handler, absent
from sandbox.providers.wire import Properties

ALIAS = {"name": "DNSName", "zoneId": "HostedZoneId", "evaluateTargetHealth": "EvaluateTargetHealth"}


class Record(Handler):
    """aws:route53/record:Record that is an alias; the id is zone, name and type. Nothing here asks for it by name."""

    type = "aws:route53/record:Record"
    service = "route53"
    supported = frozenset({"zoneId", "name", "type", "aliases"})
    replace_on = frozenset({"zoneId", "name", "type"})
    computed = ("fqdn",)
    name = "name"

    def create(self, inputs: Properties) -> str:
        self._change("CREATE", inputs)
        return "_".join(inputs[key] for key in ("zoneId", "name", "type"))

    def read(self, id: str, inputs: Properties) -> Properties | None:
        zone, _, rest = id.partition("_")
        name, _, kind = rest.rpartition("_")
        answer = absent(
            lambda: self.client.list_resource_record_sets(
                HostedZoneId=zone, StartRecordName=name, StartRecordType=kind, MaxItems="1"
            ),
            "NoSuchHostedZone",
        )
        for record in answer["ResourceRecordSets"] if answer else []:
            if (record["Name"].rstrip("."), record["Type"]) == (name, kind):
                alias = record.get("AliasTarget", {})
                target = {key: alias[said] for key, said in ALIAS.items() if said in alias}
                if target:
                    target["name"] = target["name"].rstrip(".")
                return {
                    "zoneId": zone,
                    "name": name,
                    "type": kind,
                    "fqdn": name,
                    "aliases": [target] if target else [],
                }
        return None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self._change("UPSERT", new)

    def delete(self, id: str, state: Properties) -> None:
        self._change("DELETE", state)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read("_".join(inputs[key] for key in ("zoneId", "name", "type")))

    def _change(self, action: str, record: Properties) -> None:
        (alias,) = record["aliases"]
        target = {said: alias[key] for key, said in ALIAS.items()}
        change = {
            "action": action,
            "resourceRecordSet": {"name": record["name"], "type": record["type"], "aliasTarget": target},
        }
        self.send("change_resource_record_sets", hostedZoneId=record["zoneId"], changeBatch={"changes": [change]})
