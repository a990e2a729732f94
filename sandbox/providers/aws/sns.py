"""Amazon SNS."""

from sandbox.providers.aws.handler import Handler, TagApi, absent, policy_text
from sandbox.providers.wire import Properties

ATTRIBUTES = {"displayName": "DisplayName", "kmsMasterKeyId": "KmsMasterKeyId"}


class Topic(Handler):
    """aws:sns/topic:Topic; the id is the ARN."""

    type = "aws:sns/topic:Topic"
    supported = frozenset({"name", "displayName", "kmsMasterKeyId"})
    service = "sns"
    replace_on = frozenset({"name"})
    computed = ("arn", "owner", "policy")
    name = "name"
    tag_api = TagApi(service="sns", target="ResourceArn")

    def create(self, inputs: Properties) -> str:
        attributes = {name: inputs[key] for key, name in ATTRIBUTES.items() if key in inputs}
        return self.client.create_topic(Name=inputs["name"], Attributes=attributes)["TopicArn"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(lambda: self.client.get_topic_attributes(TopicArn=id), "NotFound", "NotFoundException")
        if answer is None:
            return None
        attributes = answer["Attributes"]
        return {
            "arn": id,
            "name": id.rpartition(":")[2],
            "owner": attributes["Owner"],
            "policy": attributes["Policy"],
            **{key: attributes.get(name) for key, name in ATTRIBUTES.items()},
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        for key, name in ATTRIBUTES.items():
            if old.get(key) != new.get(key):
                self.client.set_topic_attributes(TopicArn=id, AttributeName=name, AttributeValue=new.get(key, ""))

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_topic(TopicArn=id)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(f"arn:aws:sns:{self.aws.region}:{self.aws.account_id}:{inputs['name']}")


class TopicPolicy(Handler):
    """aws:sns/topicPolicy:TopicPolicy; the id is the topic's ARN."""

    type = "aws:sns/topicPolicy:TopicPolicy"
    supported = frozenset({"arn", "policy"})
    service = "sns"
    replace_on = frozenset({"arn"})
    computed = ("owner",)

    def create(self, inputs: Properties) -> str:
        self._set(inputs["arn"], inputs["policy"])
        return inputs["arn"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(lambda: self.client.get_topic_attributes(TopicArn=id), "NotFound", "NotFoundException")
        if answer is None:
            return None
        return {
            "arn": id,
            "owner": answer["Attributes"]["Owner"],
            "policy": policy_text(answer["Attributes"]["Policy"]),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self._set(id, new["policy"])

    def delete(self, id: str, state: Properties) -> None:
        # A topic always has a policy: AWS's default one, open to the owner's account, is what it goes back to.
        account_id = self.aws.account_id
        self._set(
            id,
            '{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sns:Publish",'
            f'"Resource":"{id}","Condition":{{"StringEquals":{{"AWS:SourceOwner":"{account_id}"}}}}}}]}}',
        )

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["arn"])

    def _set(self, arn: str, policy: str) -> None:
        self.client.set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=policy)


class TopicSubscription(Handler):
    """aws:sns/topicSubscription:TopicSubscription; the id is the ARN. The emulator confirms e-mail; AWS waits."""

    type = "aws:sns/topicSubscription:TopicSubscription"
    supported = frozenset({"topic", "protocol", "endpoint"})
    service = "sns"
    replace_on = frozenset({"topic", "protocol", "endpoint"})
    computed = ("arn", "ownerId")

    def create(self, inputs: Properties) -> str:
        return self.client.subscribe(
            TopicArn=inputs["topic"],
            Protocol=inputs["protocol"],
            Endpoint=inputs["endpoint"],
            ReturnSubscriptionArn=True,
        )["SubscriptionArn"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        topic = id.rpartition(":")[0]
        for subscription in self._subscriptions(topic):
            if subscription["SubscriptionArn"] == id:
                return {
                    "arn": id,
                    "ownerId": subscription["Owner"],
                    "topic": topic,
                    "protocol": subscription["Protocol"],
                    "endpoint": subscription["Endpoint"],
                }
        return None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        raise AssertionError("every property of a subscription is in replace_on")

    def delete(self, id: str, state: Properties) -> None:
        self.client.unsubscribe(SubscriptionArn=id)

    def find(self, inputs: Properties) -> str | None:
        for subscription in self._subscriptions(inputs["topic"]):
            if (subscription["Protocol"], subscription["Endpoint"]) == (inputs["protocol"], inputs["endpoint"]):
                return subscription["SubscriptionArn"]
        return None

    def _subscriptions(self, topic: str) -> list[dict[str, str]]:
        answer = absent(
            lambda: self.client.list_subscriptions_by_topic(TopicArn=topic), "NotFound", "NotFoundException"
        )
        return answer["Subscriptions"] if answer else []
