"""The body of a CloudWatch dashboard as typed Python: metrics in widgets in rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

GRID_WIDTH = 24
"""CloudWatch lays widgets out on a grid of 24 columns."""

DAY = 86_400
SHOWN_DAYS = 31


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric, or a math expression over others, of a widget."""

    label: str
    namespace: str = ""
    name: str = ""
    dimensions: Mapping[str, str] = field(default_factory=dict)
    expression: str = ""
    id: str = ""
    visible: bool = True

    def render(self) -> list[Any]:
        """The array form that CloudWatch reads."""
        options: dict[str, Any] = {"label": self.label, "visible": self.visible}
        if self.id:
            options["id"] = self.id
        if self.expression:
            return [{"expression": self.expression, **options}]
        dimensions = [part for pair in self.dimensions.items() for part in pair]
        return [self.namespace, self.name, *dimensions, options]


@dataclass(frozen=True, kw_only=True)
class MetricWidget:
    """A widget that draws metrics."""

    title: str
    view: Literal["singleValue", "timeSeries", "gauge", "bar"]
    metrics: Sequence[Metric]
    region: str
    period: int = DAY
    """Seconds that one data point covers."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Horizontal lines: label to value."""
    y_axis: tuple[float, float] | None = None

    def render(self) -> dict[str, Any]:
        """The widget without its place."""
        properties: dict[str, Any] = {
            "title": self.title,
            "view": self.view,
            "region": self.region,
            "period": self.period,
            "stat": "Maximum",
            "metrics": [metric.render() for metric in self.metrics],
        }
        if self.thresholds:
            properties["annotations"] = {
                "horizontal": [{"label": label, "value": value} for label, value in self.thresholds.items()]
            }
        if self.y_axis:
            properties["yAxis"] = {"left": {"min": self.y_axis[0], "max": self.y_axis[1]}}
        return {"type": "metric", "properties": properties}


@dataclass(frozen=True, kw_only=True)
class TextWidget:
    """A widget of Markdown."""

    markdown: str

    def render(self) -> dict[str, Any]:
        """The widget without its place."""
        return {"type": "text", "properties": {"markdown": self.markdown}}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Widgets side by side, equally wide. Height in grid units."""

    height: int
    widgets: Sequence[MetricWidget | TextWidget]


def dashboard_body(rows: Sequence[Row]) -> str:
    """The JSON text of a dashboard; rows follow each other from the top."""
    widgets: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        width = GRID_WIDTH // len(row.widgets)
        widgets += [
            {"x": column * width, "y": top, "width": width, "height": row.height, **widget.render()}
            for column, widget in enumerate(row.widgets)
        ]
        top += row.height
    # CloudWatch would show the last three hours, and shorten the periods to fit: nothing, of figures that come daily.
    return json.dumps({"start": f"-P{SHOWN_DAYS}D", "periodOverride": "inherit", "widgets": widgets})
