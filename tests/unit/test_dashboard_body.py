"""The typed dashboard renders to what CloudWatch reads."""

import json
from typing import Any

from components.cost_foundation.dashboard_body import Metric, MetricWidget, Row, TextWidget, dashboard_body

TEXT = TextWidget(markdown="# Title")


def widgets_of(*rows: Row) -> list[dict[str, Any]]:
    return json.loads(dashboard_body(rows))["widgets"]


def places(*rows: Row) -> list[tuple[int, int, int, int]]:
    return [(widget["x"], widget["y"], widget["width"], widget["height"]) for widget in widgets_of(*rows)]


def metric_widget(*metrics: Metric, **options: Any) -> MetricWidget:
    return MetricWidget(title="Title", view="timeSeries", metrics=metrics, region="us-east-1", **options)


def test_a_row_shares_the_grid_equally() -> None:
    assert places(Row(height=6, widgets=[TEXT] * 3)) == [(0, 0, 8, 6), (8, 0, 8, 6), (16, 0, 8, 6)]


def test_rows_follow_each_other_from_the_top() -> None:
    assert places(Row(height=2, widgets=[TEXT]), Row(height=6, widgets=[TEXT]), Row(height=1, widgets=[TEXT])) == [
        (0, 0, 24, 2),
        (0, 2, 24, 6),
        (0, 8, 24, 1),
    ]


def test_a_text_widget_holds_markdown() -> None:
    (widget,) = widgets_of(Row(height=2, widgets=[TEXT]))
    assert (widget["type"], widget["properties"]) == ("text", {"markdown": "# Title"})


def test_a_metric_is_namespace_name_and_dimensions_in_pairs() -> None:
    metric = Metric(label="Spend", namespace="A/B", name="Spend", dimensions={"Stack": "dev", "Service": "S3"})
    assert metric.render() == ["A/B", "Spend", "Stack", "dev", "Service", "S3", {"label": "Spend", "visible": True}]


def test_an_expression_stands_alone() -> None:
    metric = Metric(label="%", expression="100 * a / b", id="percent")
    assert metric.render() == [{"expression": "100 * a / b", "label": "%", "visible": True, "id": "percent"}]


def test_a_hidden_metric_says_so() -> None:
    assert Metric(label="", namespace="A", name="B", visible=False).render()[-1]["visible"] is False


def test_a_widget_without_lines_or_bounds_has_neither() -> None:
    properties = metric_widget(Metric(label="", namespace="A", name="B")).render()["properties"]
    assert properties.keys() == {"title", "view", "region", "period", "stat", "metrics"}


def test_thresholds_are_horizontal_annotations() -> None:
    properties = metric_widget(thresholds={"close": 80, "over": 100}).render()["properties"]
    assert properties["annotations"] == {
        "horizontal": [{"label": "close", "value": 80}, {"label": "over", "value": 100}]
    }


def test_bounds_are_those_of_the_left_axis() -> None:
    assert metric_widget(y_axis=(0, 120)).render()["properties"]["yAxis"] == {"left": {"min": 0, "max": 120}}


def test_a_month_is_shown_in_the_periods_that_the_widgets_ask_for() -> None:
    body = json.loads(dashboard_body([]))
    assert (body["start"], body["periodOverride"]) == ("-P31D", "inherit")
