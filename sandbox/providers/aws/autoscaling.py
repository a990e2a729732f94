"""Amazon EC2 Auto Scaling."""

from sandbox.providers.aws.handler import Handler
from sandbox.providers.aws.recorded import Recorded
from sandbox.providers.wire import Properties


class Schedule(Handler):
    """aws:autoscaling/schedule:Schedule; the id is the action's name. Nothing here keeps time."""

    type = "aws:autoscaling/schedule:Schedule"
    supported = frozenset(
        {
            "autoscalingGroupName",
            "scheduledActionName",
            "minSize",
            "maxSize",
            "desiredCapacity",
            "recurrence",
            "timeZone",
            "startTime",
            "endTime",
        }
    )
    service = "autoscaling"
    replace_on = frozenset({"autoscalingGroupName", "scheduledActionName"})
    computed = (
        "arn",
        "minSize",
        "maxSize",
        "desiredCapacity",
        "recurrence",
        "timeZone",
        "startTime",
        "endTime",
    )
    recomputed = ("arn",)  # the emulator makes an action anew
    name = "scheduledActionName"

    def create(self, inputs: Properties) -> str:
        self.send("put_scheduled_update_group_action", **inputs)
        return inputs["scheduledActionName"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        group = {"AutoScalingGroupName": inputs["autoscalingGroupName"]} if inputs else {}
        answer = self.client.describe_scheduled_actions(**group)
        for action in answer["ScheduledUpdateGroupActions"]:
            if action["ScheduledActionName"] == id:
                return {**self.known_as(action), "arn": action["ScheduledActionARN"]}
        return None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.create(new)

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_scheduled_action(AutoScalingGroupName=state["autoscalingGroupName"], ScheduledActionName=id)

    def find(self, inputs: Properties) -> str | None:
        return inputs["scheduledActionName"] if self.read(inputs["scheduledActionName"], inputs) else None


class Attachment(Recorded):
    """aws:autoscaling/attachment:Attachment of a target group, which the emulator's Auto Scaling does not do."""

    type = "aws:autoscaling/attachment:Attachment"
    supported = frozenset({"autoscalingGroupName", "lbTargetGroupArn"})
    service = "autoscaling"
    replace_on = supported

    def request(self, inputs: Properties) -> None:
        self.client.attach_load_balancer_target_groups(
            AutoScalingGroupName=inputs["autoscalingGroupName"], TargetGroupARNs=[inputs["lbTargetGroupArn"]]
        )

    def new_id(self, inputs: Properties) -> str:
        return f"{inputs['autoscalingGroupName']}-{inputs['lbTargetGroupArn'].rpartition('/')[2]}"
